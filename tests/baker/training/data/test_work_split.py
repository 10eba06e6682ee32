"""How the rows of a step are split among processes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.training.data.work_split import share


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=40),
    batch_size=st.integers(1, 5),
    size=st.integers(2, 9),
)
def test_every_row_counts_once_and_all_make_the_same_number_of_passes(
    lengths: list[int], batch_size: int, size: int
) -> None:
    rows = list(range(len(lengths)))
    groups = [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    shares = [share(groups, lengths, batch_size, rank, size) for rank in range(size)]
    counted = [row for own in shares for group in own.groups[: own.counted] for row in group]
    assert sorted(counted) == rows
    assert len({len(own.groups) for own in shares}) == 1
    assert all(1 <= len(group) <= batch_size for own in shares for group in own.groups)
    assert len(shares[0].groups) <= len(groups), "no more passes than one process would make"


def test_tokens_are_shared_evenly() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(20, 1000, size=32)]
    shares = [share([list(range(32))], lengths, 32, rank, 4) for rank in range(4)]
    tokens = [sum(lengths[row] for group in own.groups for row in group) for own in shares]
    assert tokens == pytest.approx([sum(lengths) / 4] * 4, rel=0.05)


def test_one_process_does_what_was_planned() -> None:
    groups = [[3, 1], [2], [0, 4]]
    assert share(groups, [1, 2, 3, 4, 5], 2, 0, 1) == (groups, 3)


def test_smaller_passes_mean_more_passes() -> None:
    groups = [[3, 1, 5], [2], [0, 4]]
    assert share(groups, [1] * 6, 2, 0, 1) == ([[3, 1], [5], [2], [0, 4]], 4)
    shares = [share(groups, [1] * 6, 1, rank, 2) for rank in range(2)]
    assert sorted(row for own in shares for group in own.groups for row in group) == [0, 1, 2, 3, 4, 5]
    assert all(len(group) == 1 for own in shares for group in own.groups)
