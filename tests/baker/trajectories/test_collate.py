from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.errors import CollateError
from baker.status import Collation, TargetShare
from baker.trajectories.collate import MAX_HELD_OUT, Source, collate


def source(name: str, stimuli: int, each: int = 1, weight: float = 1.0) -> Source[str]:
    items = [(f"{name} {i}", f"{name}-{i}-{k}") for i in range(stimuli) for k in range(each)]
    return Source(weight=weight, items=items)


def test_one_target_gives_every_trajectory_once() -> None:
    sources = {"a": source("a", 20)}
    mix = collate(sources, held_out_share=0.1, total=None, seed=1)
    assert sorted(mix.train + mix.held_out["a"]) == sorted(item for _, item in sources["a"].items)
    assert len(mix.held_out["a"]) == 2


@given(
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
    sizes=st.lists(st.integers(2, 30), min_size=4, max_size=4),
    total=st.integers(1, 200) | st.none(),
    seed=st.integers(0, 100),
)
def test_weights_are_shares_of_the_mix(weights: list[float], sizes: list[int], total: int | None, seed: int) -> None:
    sources = {f"t{i}": source(f"t{i}", sizes[i], weight=weight) for i, weight in enumerate(weights)}
    mix = collate(sources, held_out_share=0.0, total=total, seed=seed)
    available = sum(sizes[: len(weights)])
    rows = available if total is None else min(total, available)
    counts = {name: target.trajectories for name, target in mix.collation.targets.items()}
    assert len(mix.train) == rows == sum(counts.values()) == mix.collation.total
    assert counts == by_largest_remainders({name: source.weight for name, source in sources.items()}, rows)
    for name, item_source in sources.items():
        drawn = [item for item in mix.train if item.startswith(f"{name}-")]
        assert len(drawn) == counts[name]
        assert abs(len(drawn) - rows * item_source.weight / sum(weights)) < 1
        uses = [drawn.count(item) for _, item in item_source.items]
        assert max(uses) - min(uses) <= 1, "no row is repeated before all others are used as often"


def by_largest_remainders(weights: dict[str, float], rows: int) -> dict[str, int]:
    """Gives row by row to the target that is furthest below its exact share, in fractions, which do not round."""
    exact = {name: rows * Fraction(weight) / sum(map(Fraction, weights.values())) for name, weight in weights.items()}
    counts = {name: int(share) for name, share in exact.items()}
    while sum(counts.values()) < rows:
        furthest = max(sorted(exact), key=lambda name: exact[name] - counts[name])
        counts[furthest] += 1
    return counts


@given(each=st.integers(1, 5), stimuli=st.integers(2, 40), share=st.floats(0.01, 0.5), seed=st.integers(0, 50))
def test_no_held_out_stimulus_is_trained_on(each: int, stimuli: int, share: float, seed: int) -> None:
    # Both targets have the same stimuli, so a split by target would leak.
    sources = {"a": source("q", stimuli, each), "b": source("q", stimuli, each)}
    stimulus_of = {item: stimulus for stimulus, item in sources["a"].items}
    mix = collate(sources, held_out_share=share, total=None, seed=seed)
    held_out = [item for items in mix.held_out.values() for item in items]
    assert held_out
    assert not {stimulus_of[item] for item in mix.train} & {stimulus_of[item] for item in held_out}
    assert len(held_out) <= MAX_HELD_OUT


@given(
    stimuli=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    each=st.integers(1, 3),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 50),
)
def test_every_target_with_two_stimuli_has_held_out_rows(
    stimuli: list[int], each: int, share: float, seed: int
) -> None:
    sources = {f"t{i}": source(f"t{i}", count, each) for i, count in enumerate(stimuli)}
    mix = collate(sources, held_out_share=share, total=None, seed=seed)
    assert set(mix.held_out) == {f"t{i}" for i, count in enumerate(stimuli) if count > 1}
    kept = {name: len(items) for name, items in mix.held_out.items()}
    assert sum(kept.values()) <= max(MAX_HELD_OUT, len(kept))
    rows = {name: len(sources[name].items) - mix.collation.targets[name].available for name in kept}
    for name, count in kept.items():
        assert all(item.startswith(f"{name}-") for item in mix.held_out[name])
        # A target with fewer rows than another has no more rows, or was behind it in the last turn.
        assert count >= min(rows[name], max(kept.values()) - 1)


@given(stimuli=st.integers(2, 40), share=st.floats(0.01, 0.9), seed=st.integers(0, 50))
def test_the_held_out_share_is_a_share_of_stimuli(stimuli: int, share: float, seed: int) -> None:
    mix = collate({"a": source("a", stimuli)}, held_out_share=share, total=None, seed=seed)
    expected = min(max(1, round(share * stimuli)), stimuli - 1)
    assert stimuli - mix.collation.targets["a"].available == expected
    assert mix.collation.held_out == min(expected, MAX_HELD_OUT)


def test_the_collation_describes_each_target() -> None:
    sources = {"a": source("a", 10, each=2, weight=3), "b": source("b", 2, weight=1), "c": source("c", 5, weight=0)}
    collation = collate(sources, held_out_share=0.1, total=8, seed=0).collation
    assert collation == Collation(
        total=8,
        held_out=3,
        targets={
            "a": TargetShare(weight=3, share=0.75, trajectories=6, available=18, held_out=2),
            "b": TargetShare(weight=1, share=0.25, trajectories=2, available=1, held_out=1),
        },
    )


def test_the_same_seed_gives_the_same_mix_and_another_does_not() -> None:
    def mixed(seed: int) -> list[str]:
        return collate({"a": source("a", 30)}, held_out_share=0.1, total=None, seed=seed).train

    assert mixed(3) == mixed(3) != mixed(4)


def test_a_single_stimulus_is_trained_on_and_nothing_held_out() -> None:
    mix = collate({"a": source("a", 1, each=4)}, held_out_share=0.5, total=None, seed=0)
    assert (len(mix.train), mix.held_out) == (4, {})


def test_a_target_with_one_stimulus_is_never_held_out() -> None:
    mix = collate({"a": source("a", 1), "b": source("b", 9)}, held_out_share=0.5, total=None, seed=0)
    assert "a-0-0" in mix.train


def test_a_target_of_weight_zero_is_left_out() -> None:
    mix = collate({"a": source("a", 5), "b": source("b", 5, weight=0)}, held_out_share=0.2, total=None, seed=0)
    assert set(mix.held_out) == set(mix.collation.targets) == {"a"}
    assert all(item.startswith("a") for item in mix.train)


def test_a_target_without_trajectories_is_named_in_the_error() -> None:
    with pytest.raises(CollateError, match="'b'"):
        collate({"a": source("a", 5), "b": Source(weight=1, items=[])}, held_out_share=0.1, total=None, seed=0)
