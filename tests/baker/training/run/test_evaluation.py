"""Held-out divergence, agreement and drift, compared with one row at a time."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from baker.config.bake import bake_config
from baker.errors import TrainingError
from baker.storage.files import read_lines
from baker.training import events
from baker.training.data.batches import make_batch
from baker.training.model.losses import forward_kl
from baker.training.run.evaluation import default_interval
from baker.training.run.step_plan import StepPlan
from baker.types import Trajectory
from tests.baker.tiny import make_model, make_trajectories, with_teacher
from tests.baker.training.run.loops import make_loop


def kl_alone(row: Trajectory) -> float:
    """Forward KL of one row under the untrained model, in nats over its whole response."""
    batch = make_batch([row])
    with torch.no_grad():
        logits = make_model()(input_ids=batch.input_ids_BT).logits[0, len(row.student_ids) - 1 :]
    return float(forward_kl(logits, batch.top_ids_NK, batch.top_logprobs_NK).sum())


def test_each_target_has_its_own_kl_and_every_token_has_the_same_weight(tmp_path: Path) -> None:
    rows = make_trajectories(9, seed=3)
    held_out = {"a": rows[:7], "b": rows[7:]}
    trained, emitted = make_loop(tmp_path, held_out=held_out)
    list(trained.steps())
    first = next(event for event in emitted if isinstance(event, events.Evaluated))
    nats = {target: sum(map(kl_alone, own)) for target, own in held_out.items()}
    tokens = {target: sum(len(row.response_ids) for row in own) for target, own in held_out.items()}
    assert first.by_target == pytest.approx({target: nats[target] / tokens[target] for target in held_out}, rel=1e-3)
    assert first.eval_kl == pytest.approx(sum(nats.values()) / sum(tokens.values()), rel=1e-3)
    change = trained.history.loss.eval_kl_by_target["b"]
    assert change.before == first.by_target["b"] and change.after == trained.history.evaluations[-1].by_target["b"]
    rows_of_metrics = [row for row in read_lines(tmp_path / "metrics.jsonl") if "eval_loss" in row]
    assert [row["eval_kl_by_target"] for row in rows_of_metrics] == [e.by_target for e in trained.history.evaluations]
    assert "recovered" not in rows_of_metrics[0]
    last = trained.history.evaluations[-1].eval_kl
    assert rows_of_metrics[-1]["recovered"] == trained.history.loss.recovered == 1.0 - last / first.eval_kl


def test_agreement_is_the_share_of_tokens_whose_likeliest_is_the_teacher_s(tmp_path: Path) -> None:
    rows = make_trajectories(9, seed=3)
    held_out = {"a": rows[:7], "b": rows[7:]}
    trained, _ = make_loop(tmp_path, rows=rows, held_out=held_out, epochs=20)
    list(trained.steps())
    model, baked = make_model(), trained._student.model.eval()
    for at, evaluation in ((model, trained.history.evaluations[0]), (baked, trained.history.evaluations[-1])):
        counts = {target: agreed_alone(at, own) for target, own in held_out.items()}
        shares = {target: sum(count) / len(count) for target, count in counts.items()}
        assert evaluation.agreement_by_target == pytest.approx(shares)
        both = [*counts["a"], *counts["b"]]
        assert evaluation.agreement == pytest.approx(sum(both) / len(both))
    before, after = trained.history.loss.agreement_before, trained.history.loss.agreement
    assert before is not None and after is not None and after > before
    change = trained.history.loss.agreement_by_target["a"]
    assert change.after == trained.history.evaluations[-1].agreement_by_target["a"]
    last = read_lines(tmp_path / "metrics.jsonl")[-1]
    assert (last["eval_agreement"], last["eval_agreement_by_target"]["a"]) == (after, change.after)


def agreed_alone(model: Any, rows: list[Trajectory]) -> list[bool]:
    """Whether the likeliest token is the teacher's, for each response token; one row at a time, without batches."""
    agreed = []
    for row in rows:
        ids = torch.tensor([[*row.student_ids.tolist(), *row.response_ids.tolist()]])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, len(row.student_ids) - 1 : -1]
        agreed += [int(z.argmax()) == int(top[0]) for z, top in zip(logits, row.top_ids_TK, strict=True)]
    return agreed


@pytest.mark.parametrize("has_parent", [False, True])
def test_the_drift_is_measured_on_neutral_answers_before_and_after(tmp_path: Path, has_parent: bool) -> None:
    model = make_model()
    neutral = [
        with_teacher(model, row.student_ids, row.student_ids, row.response_ids, row.stimulus)
        for row in make_trajectories(11, seed=8)
    ]
    trained, emitted = make_loop(tmp_path, neutral=neutral, has_parent=has_parent)
    if has_parent:  # an adapter with an effect, as a parent's
        with torch.no_grad():
            for parameter in trained.parameters:
                parameter.add_(0.1)
    at_start = drift_alone(trained._student.model, neutral)
    list(trained.steps())
    at_end = drift_alone(trained._student.model, neutral)
    assert at_end > 1e-3 and (at_start > 1e-3) is has_parent
    assert trained.history.loss.drift_before == pytest.approx(at_start, rel=1e-3, abs=1e-6)
    assert trained.history.loss.drift == pytest.approx(at_end, rel=1e-3)
    assert trained.history.evaluations == [], "nothing is held out here"
    assert [event.step for event in emitted if isinstance(event, events.Drifted)] == [0, trained.plan.total_steps]
    rows = [row for row in read_lines(tmp_path / "metrics.jsonl") if "drift" in row]
    assert [(row["iter"], row["drift"]) for row in rows] == [(e.step, e.drift) for e in trained.history.drifts]


def drift_alone(model: Any, rows: list[Trajectory]) -> float:
    """KL(base || model) over top tokens and the rest, one row at a time, in Python floats."""
    nats, tokens = 0.0, 0
    for row in rows:
        ids = torch.tensor([[*row.student_ids.tolist(), *row.response_ids.tolist()]])
        with torch.no_grad():
            logits = model.eval()(input_ids=ids, use_cache=False).logits[0, len(row.student_ids) - 1 : -1]
        for q, top, p in zip(logits.double().softmax(-1), row.top_ids_TK, row.top_logprobs_TK, strict=True):
            kept, masses = [float(q[token]) for token in top], [math.exp(value) for value in p]
            pairs = [*zip(masses, kept, strict=True), (1 - math.fsum(masses), 1 - math.fsum(kept))]
            nats += math.fsum(a * math.log(a / b) for a, b in pairs)
        tokens += len(row.response_ids)
    return nats / tokens


def test_a_pinned_target_shows_its_drift_and_leaves_the_bake_s_recovery_defined(tmp_path: Path) -> None:
    model = make_model()
    pinned = [
        with_teacher(model, row.student_ids, row.student_ids, row.response_ids, row.stimulus)
        for row in make_trajectories(3, seed=5)
    ]
    trained, _ = make_loop(tmp_path, held_out={"learnt": make_trajectories(3, seed=3), "pinned": pinned})
    list(trained.steps())
    drift = trained.history.loss.eval_kl_by_target["pinned"]
    assert drift.before == pytest.approx(0.0, abs=1e-5) and drift.after > 1e-3
    assert trained.history.loss.recovered is not None


def test_a_student_that_agrees_from_the_start_has_no_recovery(tmp_path: Path) -> None:
    model = make_model()
    pinned = [
        with_teacher(model, row.student_ids, row.student_ids, row.response_ids, row.stimulus)
        for row in make_trajectories(4, seed=5)
    ]
    trained, _ = make_loop(tmp_path, rows=pinned[1:], held_out={"pinned": pinned[:1]})
    list(trained.steps())
    assert trained.history.loss.eval_kl_before == pytest.approx(0.0, abs=1e-5)
    assert trained.history.loss.eval_kl is not None and trained.history.loss.recovered is None


@pytest.mark.parametrize(
    ("interval", "expected"), [(0, [0, 6]), (4, [0, 4, 6]), (2, [0, 2, 4, 6]), (3, [0, 3, 6]), (7, [0, 6])]
)
def test_an_evaluation_is_due_at_both_ends_and_every_interval(
    tmp_path: Path, interval: int, expected: list[int]
) -> None:
    trained, emitted = make_loop(
        tmp_path, held_out={"a": make_trajectories(2)}, micro_batch_size=2, eval_interval=interval
    )
    steps = list(trained.steps())
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in emitted if isinstance(event, events.Evaluated)] == expected
    assert not trained._evaluation.run_due(), "it is done already"


@pytest.mark.parametrize("rows", [2, 16, 53, 256, 768])
@pytest.mark.parametrize("held_out_tokens", [50, 600, 5000])
def test_the_default_interval_gives_ten_parts_or_as_many_as_cost_three_percent(rows: int, held_out_tokens: int) -> None:
    lengths = [90 + index % 40 for index in range(rows)]
    plan = StepPlan(lengths, bake_config({}))
    tokens = sum(lengths) * plan.epochs

    def evaluations(interval: int) -> int:
        return len(range(interval, plan.total_steps, interval)) if interval else 0

    def cost(interval: int) -> float:
        """Share of the training's time, if training on a token takes as long as evaluating 2.5."""
        return evaluations(interval) * held_out_tokens / (2.5 * tokens)

    chosen = default_interval(plan, held_out_tokens)
    assert evaluations(chosen) <= 9 and cost(chosen) <= 0.03
    smaller = chosen - 1 if chosen else plan.total_steps - 1
    if smaller:
        assert evaluations(smaller) >= 9 or cost(smaller) > 0.03 * (1 - held_out_tokens / (2.5 * tokens))


def test_evaluations_change_neither_the_steps_nor_the_adapter(tmp_path: Path) -> None:
    results = []
    for interval in (0, None, 1):
        folder = tmp_path / str(interval)
        folder.mkdir()
        trained, emitted = make_loop(
            folder, make_trajectories(8), {"a": make_trajectories(1)}, dropout=0.2, epochs=40, eval_interval=interval
        )
        list(trained.steps())
        evaluated = [event.step for event in emitted if isinstance(event, events.Evaluated)]
        results.append((trained.history.losses, [weight.tolist() for weight in trained.parameters], evaluated))
    never, default, each = results
    assert never[:2] == default[:2] == each[:2]
    assert (len(never[2]), len(each[2])) == (2, 161) and 8 <= len(default[2]) <= 11


def test_each_result_is_preceded_by_the_loss_that_it_changed(tmp_path: Path) -> None:
    rows = make_trajectories(2)
    trained, emitted = make_loop(tmp_path, held_out={"a": rows}, neutral=rows)
    list(trained.steps())
    for before, event in pairwise(emitted):
        if isinstance(event, events.Evaluated):
            assert isinstance(before, events.LossUpdated)
            assert (before.loss.eval_kl_before if event.step == 0 else before.loss.eval_kl) == event.eval_kl
        if isinstance(event, events.Drifted):
            assert isinstance(before, events.LossUpdated)
            assert (before.loss.drift_before if event.step == 0 else before.loss.drift) == event.drift


def test_a_result_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    trained, _ = make_loop(tmp_path, held_out={"a": make_trajectories(2)})
    with torch.no_grad():
        trained.parameters[1].fill_(math.nan)
    with pytest.raises(TrainingError, match=r"step 0: the held-out divergence is nan; lower optimizer\.learning_rate"):
        next(trained.steps())
