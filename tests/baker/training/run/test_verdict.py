"""The verdict on a training, from its losses and evaluations."""

import pytest

from baker.errors import BakeryError, TrainingError
from baker.training import events
from baker.training.run.verdict import judge


@pytest.mark.parametrize(
    ("losses", "evaluations", "fails"),
    [
        ([1.0] * 6 + [0.5] * 6, [], False),
        ([1.0] * 12, [], True),
        ([1.0] * 12, [1.0, 1.0], True),
        ([1.0] * 12, [1.0, 1.2, 0.9], False),
        ([1.0] * 6 + [0.5] * 6, [1.0, 1.2], False),
        ([0.5] * 6 + [1.0] * 6, [1.0, 1.2], True),
        ([0.5, 1.0], [1.0, 1.2], False),
        ([1e-4] * 12, [], False),
        ([1e-4] * 12, [1e-4, 1e-3], False),
    ],
)
def test_a_loss_that_does_not_fall_fails(losses: list[float], evaluations: list[float], fails: bool) -> None:
    evaluated = [events.Evaluated(0, kl, {"target": kl}) for kl in evaluations]
    if fails:
        with pytest.raises(BakeryError, match="did not fall"):
            judge(losses, evaluated)
    else:
        judge(losses, evaluated)


@pytest.mark.parametrize(("after", "outcome"), [(1.7, "warned"), (1.5, "fine"), (3.3, "failed"), (8.7, "failed")])
def test_a_bake_that_moves_away_from_its_teacher_is_never_silent(after: float, outcome: str) -> None:
    evaluations = [events.Evaluated(step, kl, {"target": kl}) for step, kl in enumerate((1.6, after))]
    if outcome == "failed":
        with pytest.raises(TrainingError, match="did not fall"):
            judge([1.6], evaluations)
    else:
        assert (judge([1.6], evaluations) is not None) is (outcome == "warned")


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ({"learnt": 0.5, "pinned": 0.0}, {"learnt": 0.4, "pinned": 0.3}, "fine"),
        ({"learnt": 0.5, "pinned": 0.0}, {"learnt": 0.6, "pinned": 0.0}, "failed"),
        ({"pinned": 0.0, "too": 1e-9}, {"pinned": 0.3, "too": 0.3}, "warned"),
    ],
)
def test_a_pinned_target_neither_fails_a_bake_nor_excuses_it(
    before: dict[str, float], after: dict[str, float], outcome: str
) -> None:
    """Its teacher has the student's prompt, so its divergence begins at zero and can only grow."""
    evaluations = [events.Evaluated(step, 0.0, by_target) for step, by_target in enumerate((before, after))]
    if outcome == "failed":
        with pytest.raises(TrainingError, match="did not fall"):
            judge([1.0] * 12, evaluations)
    else:
        assert (judge([1.0] * 12, evaluations) is not None) is (outcome == "warned")
