from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from baker.status import Loss
from baker.storage.files import read_lines
from baker.training import events
from baker.training import state as training_state
from baker.training.run import state_writer
from baker.training.run.run_context import RunContext
from baker.training.run.state_writer import StateWriter
from baker.training.spec import TrainSpec
from baker.training.state import Standing, TrainingState
from tests.baker.training.run.loops import make_context


class Source:
    """A loop that is at some step."""

    last_step = 9

    def __init__(self) -> None:
        self.step = 0

    def state(self) -> TrainingState:
        standing = Standing(step=self.step, rows=self.step, loss=Loss(), losses=[], evaluations=[])
        return TrainingState(standing, {"weight.0": np.full(3, self.step, np.float32)})


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(state_writer, "time", clock)
    return clock


def make(folder: Path, seconds: float) -> tuple[StateWriter, Source, RunContext, list[events.TrainEvent]]:
    context, emitted = make_context(folder, checkpoint=[{"state_every_n_seconds": seconds}])
    spec = TrainSpec(
        name="repo/bake",
        base_model="base",
        base_model_name="org/base",
        parent_adapter=None,
        train=[],
        held_out={},
        output="out",
        metrics="metrics.jsonl",
        config=context.config,
        state=str(folder / "state"),
    )
    source = Source()
    return StateWriter(spec, source, context), source, context, emitted


def kept(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "state").glob("*") if path.name.isdigit())


def test_a_state_is_written_when_its_interval_has_passed_and_not_at_the_end(tmp_path: Path, clock: Clock) -> None:
    writer, source, _, emitted = make(tmp_path, seconds=10)
    for source.step, clock.now in ((1, 109.0), (2, 110.0), (3, 119.0), (4, 121.0), (9, 200.0)):
        writer.keep_if_due()
    assert [event.step for event in emitted if isinstance(event, events.Kept)] == [2, 4]
    assert kept(tmp_path) == [2, 4]
    assert training_state.read(tmp_path / "state/4").arrays["weight.0"].tolist() == [4.0, 4.0, 4.0]


def test_a_state_that_takes_long_is_written_less_often(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*arguments: Any) -> int:
        clock.now += 1.0
        return 5

    monkeypatch.setattr(training_state, "write", write)
    writer, source, _, emitted = make(tmp_path, seconds=10)
    for source.step in range(1, 9):
        clock.now += 20.0
        writer.keep_if_due()
    events_of_states = [event for event in emitted if isinstance(event, events.Kept)]
    assert [event.step for event in events_of_states] == [1, 4, 7], "a second is 2 % of 50 s, of three steps"
    assert events_of_states[0] == events.Kept(1, 1000.0, 5, round(1 / 21, 4))


def test_the_cost_is_in_the_rows_of_the_steps_after(tmp_path: Path, clock: Clock) -> None:
    writer, source, context, emitted = make(tmp_path, seconds=0)
    context.metrics.add_step({"iter": 1})
    source.step, clock.now = 1, 101.0
    assert writer.keep()
    context.metrics.add_step({"iter": 2})
    (event,) = emitted
    assert isinstance(event, events.Kept)
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert rows == [{"iter": 1}, {"iter": 2, "state_ms": event.milliseconds, "state_share": event.share}]


def test_one_step_s_state_is_written_once(tmp_path: Path, clock: Clock) -> None:
    writer, source, _, emitted = make(tmp_path, seconds=0)
    assert writer.keep() and emitted == [], "nothing was trained yet"
    source.step, clock.now = 3, 101.0
    assert writer.keep() and writer.keep()
    assert len(emitted) == 1


def test_a_full_disk_is_a_warning_and_the_previous_state_stays(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, source, _, emitted = make(tmp_path, seconds=10)
    source.step, clock.now = 1, 110.0
    assert writer.keep()

    def refuse(*arguments: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training_state, "write", refuse)
        source.step, clock.now = 2, 120.0
        assert not writer.keep()
    message = "the training state can't be written (No space left on device): the previous state is kept"
    assert emitted[1:] == [events.Warned(message)]
    source.step, clock.now = 3, 121.0
    writer.keep_if_due()
    assert kept(tmp_path) == [1], "it is not tried again at once"
    source.step, clock.now = 4, 131.0
    writer.keep_if_due()
    assert kept(tmp_path) == [1, 4]


def test_without_a_folder_nothing_is_written(tmp_path: Path, clock: Clock) -> None:
    _, source, context, emitted = make(tmp_path, seconds=0)
    spec = msgspec.json.decode(
        msgspec.json.encode(
            {
                "name": "repo/bake",
                "base_model": "base",
                "base_model_name": "org/base",
                "parent_adapter": None,
                "train": [],
                "held_out": {},
                "output": "out",
                "metrics": "metrics.jsonl",
                "config": {},
            }
        ),
        type=TrainSpec,
    )
    writer = StateWriter(spec, source, context)
    source.step = 3
    writer.keep_if_due()
    assert writer.keep() and emitted == [] and kept(tmp_path) == []
