"""A training that is interrupted anywhere and resumed gives the same result, to the bit."""

import contextlib
import fcntl
import functools
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from baker.adapters.parity import PARITY_FILE
from baker.storage.files import read_lines, write_json
from baker.training import events
from baker.training import state as training_state
from baker.training.run.run_context import Stopped
from baker.training.run.train import train
from baker.training.spec import TrainSpec
from baker.types import Trajectory
from tests.baker.tiny import make_trajectories, save_model
from tests.baker.training.run.test_train import TIME_DEPENDENT, start, write_spec

SETTINGS: dict[str, Any] = {
    "epochs": 20,
    "gradient_accumulation_steps": 2,
    "eval_interval": 7,
    "scheduler": {"type": "cosine"},
    "model": {"baked_adapter_config": {"lora_dropout": 0.2}},
}
STEPS = 60
PIPE_BYTES = 4096
"""Size of the pipe: a process can be about 15 steps ahead of its reader."""


class Killed(BaseException):
    """Ends a training as SIGKILL would, except that the test's own process lives on."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


@functools.cache
def rows() -> list[Trajectory]:
    """Computed once: with another number of threads, the teacher's last bits differ."""
    return make_trajectories(15)


def make(folder: Path, base: Path, *checkpoint: dict[str, Any]) -> TrainSpec:
    spec = write_spec(folder, base, rows(), **SETTINGS, checkpoint=list(checkpoint))
    spec = msgspec.structs.replace(spec, state=str(folder / "state"))
    write_json(folder / "spec.json", spec)
    return spec


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: Path) -> TrainSpec:
    """A training that was not interrupted and kept no state."""
    spec = msgspec.structs.replace(make(tmp_path_factory.mktemp("whole"), base), state=None)
    train(spec, lambda event: None)
    return spec


def resumed(spec: TrainSpec) -> TrainSpec:
    assert spec.state is not None
    state = training_state.find(Path(spec.state), spec.fingerprint())
    return msgspec.structs.replace(spec, resume=None if state is None else str(state))


def finish(spec: TrainSpec) -> list[events.TrainEvent]:
    heard: list[events.TrainEvent] = []
    train(resumed(spec), heard.append)
    return heard


def rows_of(spec: TrainSpec) -> list[dict[str, Any]]:
    rows = read_lines(Path(spec.metrics))
    return [{key: value for key, value in row.items() if key not in TIME_DEPENDENT} for row in rows]


def assert_same(one: TrainSpec, other: TrainSpec) -> None:
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG, PARITY_FILE):
        files = [Path(spec.output) / str(STEPS) / name for spec in (one, other)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    assert rows_of(one) == rows_of(other)


@contextlib.contextmanager
def training(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A training process that is never far ahead of its reader."""
    with start(folder / "spec.json") as process:
        try:
            assert process.stdout is not None
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            yield process
        finally:
            process.kill()


def listen(process: "subprocess.Popen[bytes]", step: int) -> list[events.TrainEvent]:
    """Its events up to that step."""
    heard: list[events.TrainEvent] = []
    assert process.stdout is not None
    for line in process.stdout:
        heard.append(events.decode(line))
        if isinstance(heard[-1], events.Stepped) and heard[-1].step == step:
            return heard
    raise AssertionError(f"it ended before step {step}: {heard[-1:]}")


def test_after_kill_9_it_ends_the_same(tmp_path: Path, base: Path, whole: TrainSpec) -> None:
    spec = make(tmp_path, base, {"save_every_n_steps": 4})
    with training(tmp_path) as process:
        listen(process, 17)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    before = rows_of(spec)
    assert before == rows_of(whole)[: len(before)] != []
    heard = finish(spec)
    resumption = next(event for event in heard if isinstance(event, events.Resumed))
    assert 16 <= resumption.step < STEPS
    steps = [event.step for event in heard if isinstance(event, events.Stepped)]
    assert steps == list(range(resumption.step + 1, STEPS + 1))
    assert_same(spec, whole)
    losses = [row["loss"] for row in rows_of(whole) if "loss" in row]
    assert isinstance(heard[-1], events.Done)
    assert (heard[-1].loss.max_loss, heard[-1].loss.latest_loss) == (max(losses), losses[-1])
    assert heard[-1].loss.eval_kl_before == rows_of(whole)[0]["eval_loss"]


def test_sigterm_loses_nothing(tmp_path: Path, base: Path, whole: TrainSpec) -> None:
    spec = make(tmp_path, base)
    with training(tmp_path) as process:
        listen(process, 11)
        process.terminate()
        assert process.stdout is not None
        heard = [events.decode(line) for line in process.stdout]
        assert process.wait() == -signal.SIGTERM
    done = [event.step for event in heard if isinstance(event, events.Stepped)]
    kept = heard[-1]
    assert isinstance(kept, events.Kept) and kept.step == max(done, default=11) < STEPS
    assert kept.bytes > 10_000 and kept.milliseconds > 0 and 0 < kept.share < 1
    assert next(event for event in finish(spec) if isinstance(event, events.Resumed)).step == kept.step
    assert_same(spec, whole)


@pytest.mark.parametrize("point", range(0, 240, 59))
def test_wherever_it_is_interrupted_it_ends_the_same(tmp_path: Path, base: Path, whole: TrainSpec, point: int) -> None:
    """Killed after `point` events; then stopped twice, as by SIGTERM, a little later each time."""
    spec = make(tmp_path, base, {"save_every_n_steps": 6, "state_every_n_seconds": 0 if point % 2 else 30})
    left = point

    def emit(event: events.TrainEvent) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    with contextlib.suppress(Killed):
        train(resumed(spec), emit)
    for patience in (3, 8):
        asked = 0

        def is_stopping(patience: int = patience) -> bool:
            nonlocal asked
            asked += 1
            return asked > patience

        with contextlib.suppress(Stopped):
            train(resumed(spec), lambda event: None, is_stopping)
    finish(spec)
    assert_same(spec, whole)


def test_reported_checkpoints_stay_and_are_reported_again(tmp_path: Path, base: Path, whole: TrainSpec) -> None:
    spec = make(tmp_path, base, {"save_every_n_steps": 6})
    reported: list[events.Saved] = []

    def emit(event: events.TrainEvent) -> None:
        if isinstance(event, events.Saved):
            reported.append(event)
        if isinstance(event, events.Stepped) and event.step == 20:
            raise Killed

    with contextlib.suppress(Killed):
        train(spec, emit)
    (tmp_path / "out" / "19").mkdir()
    inodes = {event.step: (tmp_path / "out" / str(event.step)).stat().st_ino for event in reported}
    saved = [event for event in finish(spec) if isinstance(event, events.Saved)]
    assert [event.step for event in saved] == [*range(6, 60, 6), STEPS]
    assert saved[:3] == reported and [event.is_last for event in saved] == [False] * 9 + [True]
    assert inodes == {event.step: (tmp_path / "out" / str(event.step)).stat().st_ino for event in reported}
    assert not (tmp_path / "out" / "19").exists(), "it was never reported"
    assert_same(spec, whole)


def test_on_a_full_disk_it_continues_and_keeps_the_previous_state(tmp_path: Path, base: Path, whole: TrainSpec) -> None:
    """A limit on the size of files makes writes fail, as a full disk does."""
    spec = make(tmp_path, base, {"state_every_n_seconds": 0})
    with training(tmp_path) as process:
        listen(process, 10)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        heard = listen(process, 30)
        states = list((tmp_path / "state").iterdir())
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert process.stdout is not None
        heard += [events.decode(line) for line in process.stdout]
        assert process.wait() == 0
    warned = {event.message for event in heard if isinstance(event, events.Warned)}
    assert any(message.startswith("metrics rows can't be written (File too large)") for message in warned)
    assert any(message.startswith("the training state can't be written (File too large)") for message in warned)
    assert 9 <= max(int(path.name) for path in states if path.name.isdigit()) < 30, "the previous state stays"
    assert_same(spec, whole)


def test_a_last_checkpoint_that_does_not_fit_fails_clearly_and_loses_no_training(
    tmp_path: Path, base: Path, whole: TrainSpec
) -> None:
    spec = make(tmp_path, base, {"state_every_n_seconds": 0})
    with training(tmp_path) as process:
        listen(process, 40)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        assert process.stdout is not None
        heard = [events.decode(line) for line in process.stdout]
        assert process.wait() == 1
    assert isinstance(heard[-1], events.Failed)
    assert heard[-1] == events.Failed("disk error (File too large): fix the cause, then run it again", "DISK_ERROR")
    assert not list((tmp_path / "out").glob("*"))
    assert next(event for event in finish(spec) if isinstance(event, events.Resumed)).step >= 39
    assert_same(spec, whole)
