"""Means and intervals of groups."""

import numpy as np
import pytest

from baker.comparison.probe_set import Row, RowKind
from baker.comparison.scores import RowScore
from baker.comparison.statistics import group_stats, interval


def row(group: str, question: str) -> Row:
    return Row(RowKind.TARGET, group, question, [1], [2])


def test_a_group_weighs_tokens_not_rows() -> None:
    rows = [row("talk", "a"), row("talk", "b"), row("other", "a")]
    scores = [RowScore("1", 4.0, 1, 2), RowScore("2", 1.0, 8, 8), RowScore("3", 3.0, 0, 1)]
    talk, other = group_stats(rows, scores)
    assert (talk.name, talk.rows, talk.questions, talk.tokens) == ("talk", 2, 2, 10)
    assert (talk.kl, talk.agreement) == (0.5, 0.9)
    assert (other.name, other.kl, other.kl_low, other.kl_high) == ("other", 3.0, None, None)
    assert group_stats([], []) == []


def test_several_answers_to_one_question_are_no_independent_evidence() -> None:
    scores = [RowScore(str(number), float(number), 0, 1) for number in range(8)]
    apart = group_stats([row("talk", str(number)) for number in range(8)], scores)[0]
    together = group_stats([row("talk", str(number // 4)) for number in range(8)], scores)[0]
    assert together.questions == 2
    assert together.kl == apart.kl == 3.5
    assert together.kl_low == 1.5, "both draws are the first question"
    assert together.kl_high == 5.5
    assert apart.kl_low is not None and apart.kl_high is not None
    assert 1.5 < apart.kl_low < 3.5 < apart.kl_high < 5.5


def test_the_interval_is_the_bootstrap_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    sums = [
        [float(kl), int(tokens)] for kl, tokens in zip(rng.exponential(size=20), rng.integers(5, 50, 20), strict=True)
    ]
    means = []
    for _ in range(4000):
        drawn = [sums[number] for number in rng.integers(20, size=20)]
        means.append(sum(kl for kl, _ in drawn) / sum(tokens for _, tokens in drawn))
    low, high = interval(sums)
    assert (low, high) == interval(sums), "the draws have a seed"
    assert low == pytest.approx(np.quantile(means, 0.025), rel=0.05)
    assert high == pytest.approx(np.quantile(means, 0.975), rel=0.05)
