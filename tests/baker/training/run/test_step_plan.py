from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.status import Loss
from baker.training.run.step_plan import StepPlan
from baker.training.spec import BEFORE_ROUNDS, Round
from baker.training.state import Standing

LENGTHS = [5, 9, 3, 7, 8, 4, 6]


def make_plan(part: Round = BEFORE_ROUNDS, **settings: Any) -> StepPlan:
    return StepPlan(LENGTHS, bake_config({"epochs": 3, "micro_batch_size": 2} | settings), part)


@pytest.mark.parametrize(("accumulated", "steps_per_epoch"), [(1, 4), (2, 2), (4, 1), (9, 1)])
def test_each_epoch_takes_every_row_once(accumulated: int, steps_per_epoch: int) -> None:
    plan = make_plan(gradient_accumulation_steps=accumulated)
    assert (plan.steps_per_epoch, plan.last_step, plan.total_steps) == (steps_per_epoch, *2 * [3 * steps_per_epoch])
    assert plan.is_last_round
    orders = []
    for epoch in range(3):
        steps = list(plan.steps_after(epoch * steps_per_epoch))
        assert len(steps) == steps_per_epoch and all(len(step) <= accumulated for step in steps)
        orders.append([row for step in steps for batch in step for row in batch])
        assert sorted(orders[-1]) == list(range(len(LENGTHS)))
    assert orders[0] == plan.first_pass() and orders[0] != orders[1] != orders[2]


def test_a_continued_epoch_takes_the_rows_that_are_left() -> None:
    plan = make_plan()
    for step in range(12):
        begin = step - step % 4
        assert list(plan.steps_after(step)) == list(plan.steps_after(begin))[step - begin :]


def test_epochs_are_counted_in_fractions() -> None:
    plan = make_plan()
    assert [plan.epoch_at(step) for step in (0, 1, 4, 6, 12)] == [0.0, 0.25, 1.0, 1.5, 3.0]


ON_POLICY: dict[str, Any] = {"data": {"on_policy": {"rounds": 2, "epochs": 2}}}


def test_rounds_add_their_steps_and_passes() -> None:
    before = make_plan(**ON_POLICY)
    rows_per_round = sum(bake_config(ON_POLICY).data.on_policy.rows(len(LENGTHS)))
    steps_per_round = 2 * -(-rows_per_round // 2)
    assert (before.last_step, before.total_steps) == (12, 12 + 2 * steps_per_round)
    assert not before.is_last_round and before.passes_after == 3

    plan = make_plan(Round(number=1, first_step=12), **ON_POLICY)
    assert (plan.first_step, plan.last_step, plan.total_steps) == (12, 20, 28)
    plan.restore(standing(round=0, passes=3))
    assert (plan.epoch_at(12), plan.epoch_at(20), plan.passes_after) == (3.0, 5.0, 5)
    assert next(plan.steps_after(12)) != [plan.first_pass()[:2]], "its passes have seeds of their own"

    interrupted = make_plan(Round(number=1, first_step=12), **ON_POLICY)
    interrupted.restore(standing(round=1, passes=5))
    assert interrupted.passes_before == 3, "a state of the same round counts that round's passes already"
    assert list(interrupted.steps_after(14)) == list(plan.steps_after(14))
    assert make_plan(Round(number=2, first_step=20), **ON_POLICY).is_last_round


def standing(**fields: Any) -> Standing:
    return Standing(step=12, rows=0, loss=Loss(), losses=[], evaluations=[], **fields)
