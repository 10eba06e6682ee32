import math
from pathlib import Path
from typing import Any

import pytest
import torch

from baker.config.bake import bake_config
from baker.config.optimizer import SchedulerConfig
from baker.storage.files import read_lines
from baker.training import events
from baker.training.data.batches import make_batch
from baker.training.model import lora
from baker.training.model.losses import forward_kl
from baker.training.model.student import Lesson, Student
from baker.training.run import loop
from baker.training.run.loop import Loop
from baker.training.run.metrics import Metrics
from baker.training.run.schedule import schedule
from baker.types import Trajectory
from tests.baker.tiny import make_model, make_trajectories, with_teacher


def make_loop(
    folder: Path,
    rows: list[Trajectory] | None = None,
    held_out: dict[str, list[Trajectory]] | None = None,
    dtype: torch.dtype = torch.float32,
    neutral: list[Trajectory] | None = None,
    has_parent: bool = False,
    **settings: Any,
) -> tuple[Loop, list[events.TrainEvent]]:
    base = make_model().to(dtype)
    student = Student(base.requires_grad_(False))
    torch.manual_seed(0)
    lora.attach(base, rank=4, alpha=4.0)
    heard: list[events.TrainEvent] = []
    config = bake_config({"epochs": 2, "optimizer": {"learning_rate": 0.02}} | settings)
    rows = make_trajectories(6) if rows is None else rows
    metrics = Metrics(folder / "metrics.jsonl")
    made = Loop(
        student, config, rows, held_out or {}, metrics, heard.append, neutral=neutral or [], has_parent=has_parent
    )
    return made, heard


def kl_alone(row: Trajectory) -> float:
    """Of one row under the untrained model, in nats over its whole response."""
    batch = make_batch([row])
    with torch.no_grad():
        logits = make_model()(input_ids=batch.input_ids_BT).logits[0, len(row.student_ids) - 1 :]
    return float(forward_kl(logits, batch.top_ids_NK, batch.top_logprobs_NK).sum())


def test_each_target_has_its_own_evaluation_and_every_token_weighs_the_same_in_all_of_them(tmp_path: Path) -> None:
    rows = make_trajectories(9, seed=3)
    held_out = {"a": rows[:7], "b": rows[7:]}
    trained, heard = make_loop(tmp_path, held_out=held_out)
    list(trained.steps())
    first = next(event for event in heard if isinstance(event, events.Evaluated))
    nats = {target: sum(map(kl_alone, own)) for target, own in held_out.items()}
    tokens = {target: sum(len(row.response_ids) for row in own) for target, own in held_out.items()}
    assert first.by_target == pytest.approx({target: nats[target] / tokens[target] for target in held_out}, rel=1e-3)
    assert first.eval_kl == pytest.approx(sum(nats.values()) / sum(tokens.values()), rel=1e-3)
    change = trained.loss.eval_kl_by_target["b"]
    assert change.before == first.by_target["b"] and change.after == trained.evaluations[-1].by_target["b"]
    rows_of_metrics = [row for row in read_lines(tmp_path / "metrics.jsonl") if "eval_loss" in row]
    assert [row["eval_kl_by_target"] for row in rows_of_metrics] == [e.by_target for e in trained.evaluations]
    assert "recovered" not in rows_of_metrics[0]
    last = trained.evaluations[-1].eval_kl
    assert rows_of_metrics[-1]["recovered"] == trained.loss.recovered == 1.0 - last / first.eval_kl


def test_agreement_is_the_share_of_tokens_whose_likeliest_is_the_teacher_s(tmp_path: Path) -> None:
    rows = make_trajectories(9, seed=3)
    held_out = {"a": rows[:7], "b": rows[7:]}
    trained, _ = make_loop(tmp_path, rows=rows, held_out=held_out, epochs=20)
    list(trained.steps())
    model, baked = make_model(), trained._student.model.eval()
    for at, evaluation in ((model, trained.evaluations[0]), (baked, trained.evaluations[-1])):
        counts = {target: agreed_alone(at, own) for target, own in held_out.items()}
        shares = {target: sum(count) / len(count) for target, count in counts.items()}
        assert evaluation.agreement_by_target == pytest.approx(shares)
        both = [*counts["a"], *counts["b"]]
        assert evaluation.agreement == pytest.approx(sum(both) / len(both))
    before, after = trained.loss.agreement_before, trained.loss.agreement
    assert before is not None and after is not None and after > before
    change = trained.loss.agreement_by_target["a"]
    assert change.after == trained.evaluations[-1].agreement_by_target["a"]
    last = read_lines(tmp_path / "metrics.jsonl")[-1]
    assert (last["eval_agreement"], last["eval_agreement_by_target"]["a"]) == (after, change.after)


def agreed_alone(model: Any, rows: list[Trajectory]) -> list[bool]:
    """Of each response token, one row after the other without batches."""
    found = []
    for row in rows:
        ids = torch.tensor([[*row.student_ids.tolist(), *row.response_ids.tolist()]])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, len(row.student_ids) - 1 : -1]
        found += [int(z.argmax()) == int(top[0]) for z, top in zip(logits, row.top_ids_TK, strict=True)]
    return found


@pytest.mark.parametrize("has_parent", [False, True])
def test_the_drift_is_measured_on_neutral_answers_before_and_after(tmp_path: Path, has_parent: bool) -> None:
    model = make_model()
    neutral = [
        with_teacher(model, row.student_ids, row.student_ids, row.response_ids, row.stimulus)
        for row in make_trajectories(11, seed=8)
    ]
    trained, heard = make_loop(tmp_path, neutral=neutral, has_parent=has_parent)
    if has_parent:  # as it would come from its file
        with torch.no_grad():
            for parameter in trained.parameters:
                parameter.add_(0.1)
    at_start = drift_alone(trained._student.model, neutral)
    list(trained.steps())
    at_end = drift_alone(trained._student.model, neutral)
    assert at_end > 1e-3 and (at_start > 1e-3) is has_parent
    assert trained.loss.drift_before == pytest.approx(at_start, rel=1e-3, abs=1e-6)
    assert trained.loss.drift == pytest.approx(at_end, rel=1e-3)
    assert trained.evaluations == [], "nothing is held out here"
    assert [event.step for event in heard if isinstance(event, events.Drifted)] == [0, trained.total_steps]
    rows = [row for row in read_lines(tmp_path / "metrics.jsonl") if "drift" in row]
    assert [(row["iter"], row["drift"]) for row in rows] == [(e.step, e.drift) for e in trained.drifts]


def drift_alone(model: Any, rows: list[Trajectory]) -> float:
    """KL(base || model) over top tokens and the rest, one row after the other, in Python floats."""
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


def test_a_pinned_target_shows_its_drift_and_leaves_the_whole_bake_s_recovery_defined(tmp_path: Path) -> None:
    model = make_model()
    pinned = [
        with_teacher(model, row.student_ids, row.student_ids, row.response_ids, row.stimulus)
        for row in make_trajectories(3, seed=5)
    ]
    trained, _ = make_loop(tmp_path, held_out={"learnt": make_trajectories(3, seed=3), "pinned": pinned})
    list(trained.steps())
    drift = trained.loss.eval_kl_by_target["pinned"]
    assert drift.before == pytest.approx(0.0, abs=1e-5) and drift.after > 1e-3
    assert trained.loss.recovered is not None


def test_what_agrees_from_the_start_has_no_recovery(tmp_path: Path) -> None:
    model = make_model()
    pinned = [
        with_teacher(model, row.student_ids, row.student_ids, row.response_ids, row.stimulus)
        for row in make_trajectories(4, seed=5)
    ]
    trained, _ = make_loop(tmp_path, rows=pinned[1:], held_out={"pinned": pinned[:1]})
    list(trained.steps())
    assert trained.loss.eval_kl_before == pytest.approx(0.0, abs=1e-5)
    assert trained.loss.eval_kl is not None and trained.loss.recovered is None


def test_another_divergence_is_trained_and_the_same_one_evaluated(tmp_path: Path) -> None:
    held_out = {"target": make_trajectories(3, seed=3)}
    outcomes = []
    for name, data in (("plain", {}), ("other", {"beta": 0.5, "temperature": 2.0}), ("off", {"beta": 0.0})):
        (tmp_path / name).mkdir()
        trained, _ = make_loop(tmp_path / name, held_out=held_out, epochs=20, data=data)
        list(trained.steps())
        outcomes.append(trained)
    plain, other, off = outcomes
    assert other.losses[0] != pytest.approx(plain.losses[0], rel=0.01)
    assert other.evaluations[0] == plain.evaluations[0]
    assert other.evaluations[-1].eval_kl < 0.9 * other.evaluations[0].eval_kl
    assert off.losses == plain.losses, "a beta of 0 is the default"


def test_float16_loses_no_small_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_trajectories(4)

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        trained, _ = make_loop(tmp_path, rows=rows, dtype=dtype, micro_batch_size=len(rows))
        (step,) = trained._steps_of(0, 0)
        trained._backward(step)
        return torch.cat([p.grad.flatten() for p in trained.parameters if p.grad is not None])

    whole = Student.lesson
    monkeypatch.setattr(Student, "lesson", lambda *arguments: Lesson(*(part * 1e-5 for part in whole(*arguments))))
    exact = gradient(torch.float32)
    assert (gradient(torch.float16) - exact).norm() < 0.1 * exact.norm()
    monkeypatch.setattr(loop, "FLOAT16_LOSS_SCALE", 1.0)
    assert (gradient(torch.float16) - exact).norm() > 0.5 * exact.norm(), "float16 has nothing so small"


def test_schedules_warm_up_and_decay() -> None:
    def shares(kind: Any, warmup: int, total: int) -> list[float]:
        return [schedule(SchedulerConfig(type=kind, warmup_steps=warmup), step, total) for step in range(1, total + 1)]

    assert shares("constant", 3, 6) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert shares("linear", 0, 4) == pytest.approx([1, 0.75, 0.5, 0.25])
    assert shares("linear", 1, 5) == pytest.approx([0.5, 1, 0.75, 0.5, 0.25])
    assert shares("cosine", 0, 4) == pytest.approx([(1 + math.cos(math.pi * part / 4)) / 2 for part in range(4)])
    for kind in ("constant", "linear", "cosine"):
        assert shares(kind, 9, 1) == [1.0]
        assert all(share > 0 for share in shares(kind, 9, 3))
