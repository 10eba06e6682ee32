"""What is left of a version, and where versions contradict each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.merging import evaluation
from baker.merging.evaluation import SideScores
from baker.merging.rows import Row
from baker.merging.scoring import RowScore
from baker.types import Distribution

NOTHING = Distribution(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32))


def score(kl: float, *likeliest: int, stimulus: str = "q", agreed: int = 0) -> RowScore:
    return RowScore(stimulus, kl, agreed, list(likeliest))


def test_retention_is_the_share_of_the_gain_that_is_left() -> None:
    base = [score(4.0, 1, 1, stimulus="a"), score(6.0, 1, 1, stimulus="b")]
    own = [score(1.0, 2, 2, stimulus="a", agreed=2), score(1.0, 2, 2, stimulus="b", agreed=1)]
    merged = [score(2.0, 2, 2, stimulus="a", agreed=1), score(2.0, 2, 2, stimulus="b", agreed=1)]
    left = evaluation.retention(base, own, merged)
    assert left.retention == pytest.approx((10 - 4) / (10 - 2))
    assert (left.kl_base, left.kl_own, left.kl_merged) == (10 / 4, 2 / 4, 4 / 4)
    assert (left.agreement_own, left.agreement) == (3 / 4, 2 / 4)
    assert (left.rows, left.questions) == (2, 2)
    assert left.low is not None and left.high is not None
    # The bootstrap draws (a, a), (a, b), (b, a) or (b, b).
    assert left.low == pytest.approx(2 / 3) and left.high == pytest.approx(4 / 5)


@pytest.mark.parametrize("merged, expected", [("base", 0.0), ("own", 1.0)])
def test_the_base_keeps_nothing_and_the_version_everything(merged: str, expected: float) -> None:
    scores = {"base": [score(3.0, 1), score(1.0, 1)], "own": [score(0.5, 1), score(0.5, 1)]}
    assert evaluation.retention(scores["base"], scores["own"], scores[merged]).retention == pytest.approx(expected)


def test_a_version_that_learned_nothing_has_no_retention() -> None:
    left = evaluation.retention([score(0.001, 1)], [score(0.0, 1)], [score(9.0, 1)])
    assert (left.retention, left.low, left.high) == (None, None, None)
    assert left.kl_merged == 9.0


def test_several_answers_to_a_question_are_one_piece_of_evidence() -> None:
    rows = [score(2.0, 1), score(4.0, 1)], [score(1.0, 1), score(1.0, 1)], [score(1.0, 1), score(3.0, 1)]
    left = evaluation.retention(*rows)
    assert (left.questions, left.low) == (1, None)


def by_hand(base: list[int], sides: list[list[int]]) -> tuple[int, int]:
    """Conflicts and moved tokens by the rule for each token: versions that left the base, for different tokens."""
    conflicts = moved = 0
    for token, others in zip(base, zip(*sides, strict=True), strict=True):
        changed = [other for other in others if other != token]
        moved += bool(changed)
        conflicts += len(set(changed)) > 1
    return conflicts, moved


tokens = st.integers(0, 3)


@given(
    st.integers(1, 6).flatmap(
        lambda size: st.lists(st.lists(tokens, min_size=size, max_size=size), min_size=3, max_size=5)
    )
)
def test_a_conflict_is_where_two_versions_moved_apart(rows: list[list[int]]) -> None:
    base, *sides = rows
    found = evaluation.row_conflict(score(0, *base), [score(0, *side) for side in sides])
    assert (found.conflicts, found.moved) == by_hand(base, sides)


def test_the_worst_questions_come_first() -> None:
    rows = [Row(stimulus, [1], [1, 1], NOTHING) for stimulus in ("quiet", "loud")]
    side = SideScores(
        "pirate",
        rows,
        [score(0, 1, 1), score(0, 1, 1)],
        {"pirate": [score(0, 2, 1), score(0, 2, 2)], "yoda": [score(0, 1, 1), score(0, 3, 3)]},
    )
    conflict, worst = evaluation.conflict([side], has_equal_contexts=True)
    assert (conflict.conflicts, conflict.moved) == (2, 3)
    assert conflict.share == pytest.approx(2 / 3)
    (question,) = [evaluation.conflict_question(each, {"pirate": "Arr", "yoda": "Hmm"}) for each in worst]
    assert (question.question, question.side, question.conflicts, question.moved) == ("loud", "pirate", 2, 2)


def test_the_drift_is_per_token() -> None:
    assert evaluation.drift([score(1.0, 1, 1, 1), score(1.0, 1)]) == pytest.approx(0.5)
