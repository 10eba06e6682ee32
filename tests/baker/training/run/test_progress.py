from pathlib import Path
from typing import Any

import pytest
import torch

from baker.status import Loss
from baker.storage.files import read_lines
from baker.training import events
from baker.training.run import progress
from baker.training.run.progress import ProgressReporter, StepResult
from baker.training.run.step_plan import StepPlan
from tests.baker.training.run.loops import make_context


class Clock:
    now = 50.0

    def monotonic(self) -> float:
        return self.now


def make(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[ProgressReporter, Clock, list[events.TrainEvent]]:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    context, emitted = make_context(folder, micro_batch_size=1, **settings)
    plan = StepPlan([4, 5], context.config, context.round)
    return ProgressReporter(plan, context, torch.device("cpu")), clock, emitted


def result(step: int) -> StepResult:
    return StepResult(step, 0.5, 0.01, 2.0, seconds=0.25, tokens=100, longest=60)


def test_a_step_is_an_event_after_the_loss_so_far_and_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter, clock, emitted = make(tmp_path, monkeypatch)
    reporter.start_clock(1)
    clock.now += 3.0
    summary = Loss(latest_loss=0.5)
    reporter.report(result(2), summary)
    updated, stepped = emitted
    assert updated == events.LossUpdated(summary)
    assert isinstance(stepped, events.Stepped)
    assert (stepped.step, stepped.total_steps, stepped.epoch, stepped.tokens_per_second) == (2, 4, 1.0, 400.0)
    assert stepped.eta_seconds == 6.0, "two steps are left, and the one since the clock's start took 3 s"
    assert stepped.memory_bytes > 0 and stepped.device_memory_bytes is None
    (row,) = read_lines(tmp_path / "metrics.jsonl")
    assert row == {
        "iter": 2,
        "epoch": 1.0,
        "loss": 0.5,
        "lr": 0.01,
        "grad_norm": 2.0,
        "tokens_per_second": 400.0,
        "seqlen": 60,
        "iter_time": 0.25,
        "eta_seconds": 6.0,
        "memory_bytes": stepped.memory_bytes,
    }


def test_rows_are_written_at_their_interval_and_after_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, _, emitted = make(tmp_path, monkeypatch, train_log_iter_interval=3)
    for step in range(1, 5):
        reporter.report(result(step), Loss())
    assert [row["iter"] for row in read_lines(tmp_path / "metrics.jsonl")] == [3, 4]
    assert [event.step for event in emitted if isinstance(event, events.Stepped)] == [1, 2, 3, 4]


def test_rows_name_the_round_only_in_a_bake_with_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter, _, _ = make(tmp_path, monkeypatch, data={"on_policy": {"rounds": 2}})
    reporter.report(result(1), Loss())
    (row,) = read_lines(tmp_path / "metrics.jsonl")
    assert row["round"] == 0
