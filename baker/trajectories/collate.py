"""The third stage: mixes the trajectories of several targets by weight, and holds a part out. Pure functions."""

import random
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from baker.errors import CollateError
from baker.status import Collation, TargetShare

Item = TypeVar("Item")

MAX_HELD_OUT = 32
"""Most trajectories to hold out: a bake evaluates all of them three times, and each costs as much as a training row.
One per target is held out even beyond this limit."""


class Source(msgspec.Struct, Generic[Item], frozen=True):
    """The trajectories of one target."""

    weight: float
    items: Sequence[tuple[str, Item]]
    """(stimulus, trajectory) pairs. A trajectory can be anything, such as the name of its file."""


class Mix(msgspec.Struct, Generic[Item], frozen=True):
    train: list[Item]
    """Items to train on, in the order of the first epoch; an item may appear more than once."""
    held_out: dict[str, list[Item]]
    """Held-out items by target, none with a stimulus of `train`. Targets without held-out items are absent."""
    collation: Collation


def collate(
    sources: Mapping[str, Source[Item]],
    *,
    held_out_share: float,
    total: int | None,
    seed: int,
) -> Mix[Item]:
    """Mix the targets by their weights.

    Weights are sampling weights: target i gives total * w_i / sum(w) rows, rounded by largest remainders. They are
    drawn without replacement until the target's rows are used up, then from the start again. The held-out part is
    split off by stimulus over all targets, so that no held-out question is ever trained on. Each target has a part of
    it, unless a target would then have nothing to train on.

    Args:
        held_out_share: share of the stimuli to hold out.
        total: number of rows to train on; None, or more than there are: as many as there are.
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
    held_out = _limit_evenly(held_out, MAX_HELD_OUT, chance)
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
    """The stimuli to hold out: `share` of them, at least one of each target that has two, never all of a target's."""
    stimuli = sorted({stimulus for source in sources.values() for stimulus, _ in source.items})
    if share == 0 or len(stimuli) < 2:
        return set()
    chance.shuffle(stimuli)
    stimuli_by_target = [{stimulus for stimulus, _ in source.items} for source in sources.values()]
    to_train_on = [set(own_stimuli) for own_stimuli in stimuli_by_target]
    held_out: set[str] = set()

    def hold_out(candidates: list[str], count: int) -> None:
        """Hold out `count` of the candidates, or fewer so that each target keeps a stimulus to train on."""
        missing = count - sum(stimulus in held_out for stimulus in candidates)
        for stimulus in candidates:
            if missing > 0 and stimulus not in held_out and {stimulus} not in to_train_on:
                held_out.add(stimulus)
                missing -= 1
                for remaining in to_train_on:
                    remaining.discard(stimulus)

    for own_stimuli in stimuli_by_target:
        hold_out([stimulus for stimulus in stimuli if stimulus in own_stimuli], 1)
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
    """`count` random items; each comes once before any comes again."""
    drawn: list[Item] = []
    while len(drawn) < count:
        drawn += chance.sample(items, k=min(len(items), count - len(drawn)))
    return drawn


def _limit_evenly(items: Mapping[str, list[Item]], limit: int, chance: random.Random) -> dict[str, list[Item]]:
    """At most `limit` random items in all, as equal a number per key as possible, but at least one per key."""
    shuffled = {name: chance.sample(own_items, k=len(own_items)) for name, own_items in items.items()}
    in_turn = [
        (name, own_items[turn])
        for turn in range(max(map(len, shuffled.values()), default=0))
        for name, own_items in shuffled.items()
        if turn < len(own_items)
    ]
    kept: dict[str, list[Item]] = {name: [] for name in items}
    for name, item in in_turn[: max(limit, sum(map(bool, items.values())))]:
        kept[name].append(item)
    return kept
