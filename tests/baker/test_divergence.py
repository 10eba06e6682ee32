"""A lower bound of the KL from the likeliest tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.divergence import position_kls, top_kl
from baker.types import Distribution


def whole(probabilities: list[list[float]]) -> Distribution:
    """All tokens of a small vocabulary, likeliest first, for each position."""
    p_TV = np.array(probabilities)
    order_TV = np.argsort(-p_TV, axis=1)
    return Distribution(
        order_TV.astype(np.int32), np.log(np.take_along_axis(p_TV, order_TV, axis=1)).astype(np.float32)
    )


def cut(distribution: Distribution, count: int) -> Distribution:
    return Distribution(distribution.top_ids_TK[:, :count], distribution.top_logprobs_TK[:, :count])


def test_over_the_whole_vocabulary_it_is_the_kl() -> None:
    p, q = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], [[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]
    expected = sum(a * np.log(a / b) for ps, qs in zip(p, q, strict=True) for a, b in zip(ps, qs, strict=True)) / 2
    assert top_kl(whole(p), whole(q)) == pytest.approx(expected, abs=1e-5)


def test_its_positions_have_the_kl_of_each() -> None:
    p, q = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], [[0.2, 0.2, 0.6], [0.1, 0.1, 0.8]]
    first, second = position_kls(whole(p), whole(q))
    assert first == pytest.approx(sum(a * np.log(a / b) for a, b in zip(p[0], q[0], strict=True)), abs=1e-5)
    assert second == pytest.approx(0.0, abs=1e-6)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 12),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.1, 1.0, 9.0]),
)
def test_with_the_likeliest_tokens_only_it_is_not_more(
    seed: int, size: int, teachers: int, students: int, evenness: float
) -> None:
    rng = np.random.default_rng(seed)
    # Not less than 1e-4: log-probabilities come as float32, so what a list leaves is only known up to 6e-8.
    p, q = (np.maximum(rng.dirichlet(np.full(size, evenness), size=3), 1e-4) for _ in range(2))
    p, q = (each / each.sum(axis=1, keepdims=True) for each in (p, q))
    exact = float((p * np.log(p / q)).sum(axis=1).mean())
    bound = top_kl(cut(whole(p.tolist()), teachers), cut(whole(q.tolist()), students))
    assert -1e-5 <= bound <= exact + 1e-4 * (1 + exact), "up to the rounding of float32"
    assert top_kl(cut(whole(p.tolist()), teachers), cut(whole(p.tolist()), teachers)) == pytest.approx(0.0, abs=1e-5)


def test_tokens_that_the_student_hardly_gives_count_though_its_list_lacks_them() -> None:
    p, q = [[0.9, 0.05, 0.03, 0.02]], [[0.02, 0.03, 0.05, 0.9]]
    bound = top_kl(cut(whole(p), 1), cut(whole(q), 1))
    # The student has at most 0.1 for all tokens but its likeliest, so at most that for the teacher's.
    assert bound == pytest.approx(0.9 * np.log(0.9 / 0.1) + 0.1 * np.log(0.1 / 0.9), abs=1e-5)
