"""The third stage: the trajectories of several targets -> one weighted mix, with a part held out. Pure."""

import random
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from baker.errors import CollateError
from baker.status import Collation, TargetShare

Item = TypeVar("Item")

MAX_HELD_OUT = 32
"""Trajectories: an evaluation costs as much as so many training rows, three times a bake. One of each target is held
out in any case."""


class Source(msgspec.Struct, Generic[Item], frozen=True):
    """The trajectories of one target."""

    weight: float
    items: Sequence[tuple[str, Item]]
    """(stimulus, trajectory) pairs; the trajectory may be a file's name, nothing here looks inside."""


class Mix(msgspec.Struct, Generic[Item], frozen=True):
    train: list[Item]
    """In training order of the first epoch; an item may stand here more than once."""
    held_out: dict[str, list[Item]]
    """By target: answers to stimuli that `train` has none of. A target without any is not here."""
    collation: Collation


def collate(
    sources: Mapping[str, Source[Item]],
    *,
    held_out_share: float,
    total: int | None,
    seed: int,
) -> Mix[Item]:
    """Mix the targets by their weights.

    Weights are sampling weights: target i gives total * w_i / sum(w) rows (largest remainders make up for rounding),
    drawn without replacement until its rows are used up, then again from the start. `total` is at most as many as
    there are rows; None means that many. The held-out part is split by stimulus over all targets, so no question of
    it is ever trained on, and each target has its part of it, unless that would leave one with nothing to train on.

    Raises: CollateError if a target with weight has no rows to train on.
    """
    chance = random.Random(seed)
    weighted = {name: source for name, source in sources.items() if source.weight > 0}
    held_out_stimuli = _held_out_stimuli(weighted, held_out_share, chance)
    pools: dict[str, list[Item]] = {}
    held_out: dict[str, list[Item]] = {}
    for name, source in weighted.items():
        pools[name] = [item for stimulus, item in source.items if stimulus not in held_out_stimuli]
        held_out[name] = [item for stimulus, item in source.items if stimulus in held_out_stimuli]
        if not pools[name]:
            raise CollateError(f"target {name!r} has no trajectories to train on: run its rollout with more stimuli")
    available = sum(map(len, pools.values()))
    counts = _shares(
        {name: source.weight for name, source in weighted.items()},
        available if total is None else min(total, available),
    )
    train = [item for name, pool in pools.items() for item in _draw(pool, counts[name], chance)]
    chance.shuffle(train)
    held_out = _evenly(held_out, MAX_HELD_OUT, chance)
    targets = {
        name: TargetShare(
            weight=source.weight,
            share=counts[name] / len(train),
            trajectories=counts[name],
            available=len(pools[name]),
            held_out=len(held_out[name]),
        )
        for name, source in weighted.items()
    }
    return Mix(
        train=train,
        held_out={name: items for name, items in held_out.items() if items},
        collation=Collation(total=len(train), held_out=sum(map(len, held_out.values())), targets=targets),
    )


def _held_out_stimuli(sources: Mapping[str, Source[Item]], share: float, chance: random.Random) -> set[str]:
    """That share of the stimuli, and at least one of each target that has two; never all of a target's."""
    stimuli = sorted({stimulus for source in sources.values() for stimulus, _ in source.items})
    if share == 0 or len(stimuli) < 2:
        return set()
    chance.shuffle(stimuli)
    asked = [{stimulus for stimulus, _ in source.items} for source in sources.values()]
    left = [set(own) for own in asked]
    held_out: set[str] = set()

    def hold_out(candidates: list[str], count: int) -> None:
        """Until so many of the candidates are held out, as far as every target keeps one."""
        missing = count - sum(stimulus in held_out for stimulus in candidates)
        for stimulus in candidates:
            if missing > 0 and stimulus not in held_out and {stimulus} not in left:
                held_out.add(stimulus)
                missing -= 1
                for rest in left:
                    rest.discard(stimulus)

    for own in asked:
        hold_out([stimulus for stimulus in stimuli if stimulus in own], 1)
    hold_out(stimuli, max(1, round(share * len(stimuli))))
    return held_out


def _shares(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """`total` split by weight into whole numbers (largest remainder method)."""
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    counts = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _draw(items: Sequence[Item], count: int, chance: random.Random) -> list[Item]:
    drawn: list[Item] = []
    while len(drawn) < count:
        drawn += chance.sample(items, k=min(len(items), count - len(drawn)))
    return drawn


def _evenly(items: Mapping[str, list[Item]], most: int, chance: random.Random) -> dict[str, list[Item]]:
    """At most `most` of all the items, by chance: one of each key in any case, and then from key to key."""
    shuffled = {name: chance.sample(own, k=len(own)) for name, own in items.items()}
    in_turn = [
        (name, own[depth])
        for depth in range(max(map(len, shuffled.values()), default=0))
        for name, own in shuffled.items()
        if depth < len(own)
    ]
    kept: dict[str, list[Item]] = {name: [] for name in items}
    for name, item in in_turn[: max(most, sum(map(bool, items.values())))]:
        kept[name].append(item)
    return kept
