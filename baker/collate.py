"""The third stage: the trajectories of several targets -> one weighted mix, with a part held out. Pure."""

import random
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from baker.errors import CollateError

Item = TypeVar("Item")

MAX_HELD_OUT = 32
"""Trajectories: an evaluation costs as much as so many training rows, three times a bake."""


class Source(msgspec.Struct, Generic[Item], frozen=True):
    """The trajectories of one target."""

    weight: float
    items: Sequence[tuple[str, Item]]
    """(stimulus, trajectory) pairs; the trajectory may be a file's name, nothing here looks inside."""


class Mix(msgspec.Struct, Generic[Item], frozen=True):
    train: list[Item]
    """In training order of the first epoch; an item may stand here more than once."""
    held_out: list[Item]
    """Answers to stimuli that `train` has none of."""
    counts: dict[str, int]
    """Rows of `train` by target."""


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
    it is ever trained on.

    Raises: CollateError if a target with weight has no rows to train on.
    """
    chance = random.Random(seed)
    held_out_stimuli = _held_out_stimuli(sources, held_out_share, chance)
    train_items: dict[str, list[Item]] = {}
    held_out: list[Item] = []
    for name, source in sources.items():
        if source.weight == 0:
            continue
        train_items[name] = [item for stimulus, item in source.items if stimulus not in held_out_stimuli]
        held_out += [item for stimulus, item in source.items if stimulus in held_out_stimuli]
        if not train_items[name]:
            raise CollateError(f"target {name!r} has no trajectories to train on: run its rollout with more stimuli")
    available = sum(map(len, train_items.values()))
    counts = _shares(
        {name: sources[name].weight for name in train_items},
        available if total is None else min(total, available),
    )
    train = [item for name, items in train_items.items() for item in _draw(items, counts[name], chance)]
    chance.shuffle(train)
    chance.shuffle(held_out)
    return Mix(train=train, held_out=held_out[:MAX_HELD_OUT], counts=counts)


def _held_out_stimuli(sources: Mapping[str, Source[Item]], share: float, chance: random.Random) -> set[str]:
    """At least one if there is a share and more than one stimulus; never so many that a target loses all."""
    weighted = [source for source in sources.values() if source.weight > 0]
    stimuli = sorted({stimulus for source in weighted for stimulus, _ in source.items})
    count = 0 if share == 0 or len(stimuli) < 2 else max(1, round(share * len(stimuli)))
    chance.shuffle(stimuli)
    left = [{stimulus for stimulus, _ in source.items} for source in weighted]
    held_out: set[str] = set()
    for stimulus in stimuli:
        if len(held_out) == count:
            break
        if all(rest != {stimulus} for rest in left):
            held_out.add(stimulus)
            for rest in left:
                rest.discard(stimulus)
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
