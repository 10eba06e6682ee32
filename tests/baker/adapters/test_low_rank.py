"""Cuts of products of factors, against numpy's SVD of the big matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.adapters.low_rank import low_rank
from baker.adapters.updates import Update


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([1.0, 1e-12, 1e9]))
def test_the_factors_of_a_cut_are_those_of_the_svd(seed: int, rank: int, imbalance: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = imbalance ** rng.uniform(-1, 1, 6)  # columns of B may be far larger or smaller than the rows of A
    update = Update(rng.normal(size=(13, 6)) * sizes, rng.normal(size=(6, 9)) / sizes[:, None])
    part = low_rank(update)
    u, values, v = np.linalg.svd(update.b @ update.a)
    np.testing.assert_allclose(part.values, values[:6], atol=1e-7 * values[0])
    b, a = update.b @ part.left[:, :rank], part.right[:rank] @ update.a
    np.testing.assert_allclose(b @ a, (u[:, :rank] * values[:rank]) @ v[:rank], atol=1e-6 * values[0])
    np.testing.assert_allclose(np.linalg.norm(b, axis=0), np.linalg.norm(a, axis=1), rtol=1e-4)


@pytest.mark.parametrize("zeros", ["b", "a", "both"])
def test_columns_that_do_nothing_have_no_part(zeros: str) -> None:
    rng = np.random.default_rng(0)
    b, a = rng.normal(size=(9, 3)), rng.normal(size=(3, 5))
    if zeros != "a":
        b[:, 1:] = 0
    if zeros != "b":
        a[1:] = 0
    part = low_rank(Update(b, a))
    assert len(part.values) == 1
    assert part.values[0] == pytest.approx(np.linalg.norm(b @ a))
    assert len(low_rank(Update(b * 0, a)).values) == 0


def test_what_cancels_leaves_nothing() -> None:
    rng = np.random.default_rng(0)
    b, a = rng.normal(size=(9, 3)), rng.normal(size=(3, 5))
    assert len(low_rank(Update(np.hstack([b, -b]), np.vstack([a, a]))).values) == 0
    assert len(low_rank(Update(np.hstack([b, -b]), np.vstack([a, 1.001 * a]))).values) == 3
