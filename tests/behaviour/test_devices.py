"""A training shared by several processes, which torchrun starts, on the CPU."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from baker.errors import TrainerLostError
from baker.storage.files import read_lines, write_json
from baker.training import events, launcher
from baker.training import state as training_state
from baker.training.launcher import torchrun
from baker.training.run.run_context import Stopped
from baker.training.run.train import train
from baker.training.spec import TrainSpec
from tests.baker.tiny import make_trajectories, save_model
from tests.baker.training.run.test_train import warnings_of, write_spec

STEPS = 16
SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 3,  # an odd number: on two devices, one waits for the other in each step
    "eval_interval": 5,
    "checkpoint": [{"save_every_n_steps": 4, "state_every_n_seconds": 0}],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


def make(folder: Path, base: Path, **settings: Any) -> TrainSpec:
    spec = write_spec(folder, base, make_trajectories(15), **SETTINGS, **settings)
    spec = msgspec.structs.replace(spec, state=str(folder / "state"))
    write_json(folder / "spec.json", spec)
    return spec


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, base: Path) -> TrainSpec:
    """The same training by one process."""
    spec = make(tmp_path_factory.mktemp("alone"), base)
    train(spec, lambda event: None)
    return spec


def resumed(spec: TrainSpec, **changes: Any) -> TrainSpec:
    assert spec.state is not None
    state = training_state.find(Path(spec.state), spec.fingerprint())
    assert state is not None
    return msgspec.structs.replace(spec, resume=str(state), **changes)


def assert_equal_except_for_rounding(one: TrainSpec, other: TrainSpec) -> None:
    actual, expected = (read_lines(Path(spec.metrics)) for spec in (one, other))
    assert [(row["iter"], row["epoch"]) for row in actual] == [(row["iter"], row["epoch"]) for row in expected]
    for row, wanted in zip(actual, expected, strict=True):
        for key in ("loss", "eval_loss", "grad_norm", "lr", "seqlen"):
            assert row.get(key, 0) == pytest.approx(wanted.get(key, 0), rel=1e-5), (row["iter"], key)
    for step in (8, STEPS):
        weights, wanted = (load_file(Path(spec.output) / str(step) / ADAPTER_WEIGHTS) for spec in (one, other))
        assert weights.keys() == wanted.keys()
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, wanted[name], rtol=1e-4, atol=1e-6)
        configs = [Path(spec.output) / str(step) / ADAPTER_CONFIG for spec in (one, other)]
        assert configs[0].read_bytes() == configs[1].read_bytes()


def worker(spec_file: Path, rank: int) -> int:
    """The id of the process of that rank that trains on the spec."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((folder / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:
            continue  # of another user, or ended
        if str(spec_file).encode() in command and f"RANK={rank}".encode() in environment:
            return int(folder.name)
    raise AssertionError("there is no such process")


def test_two_machines_train_as_one_process_would(tmp_path: Path, base: Path, alone: TrainSpec) -> None:
    """For torchrun they are two machines: each knows the other only by an address, and both see the folder."""
    spec = make(tmp_path, base)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    where = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    torchrun, work = ["-m", "torch.distributed.run"], ["-m", "baker.training.run", str(tmp_path / "spec.json")]
    machines = [
        subprocess.Popen(
            [sys.executable, *torchrun, *where, "--node-rank", str(number), *work],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(2)
    ]
    try:
        outputs = [machine.communicate(timeout=120) for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    heard = [events.decode(line) for line in outputs[0][0].splitlines()]
    assert isinstance(heard[-1], events.Done) and outputs[1][0] == b"", "only the first one reports"
    (plan,) = (event.memory for event in heard if isinstance(event, events.Planned))
    assert plan.devices == 2
    assert_equal_except_for_rounding(spec, alone)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The service's event loop."""
    return "asyncio", {"use_uvloop": True}


@pytest.mark.anyio
async def test_two_processes_train_as_one_would_and_resume_after_one_is_killed(
    tmp_path: Path, base: Path, alone: TrainSpec
) -> None:
    spec = msgspec.structs.replace(make(tmp_path, base), devices=2)
    heard: list[events.TrainEvent] = []

    async def kill_one(event: events.TrainEvent) -> None:
        heard.append(event)
        if isinstance(event, events.Stepped) and event.step == 6:
            victim = worker(tmp_path / "spec.json", rank=1)
            assert victim != worker(tmp_path / "spec.json", rank=0)
            os.kill(victim, signal.SIGKILL)

    with pytest.raises(TrainerLostError, match="before it was done"):
        await launcher.train(spec, tmp_path, kill_one)
    assert not any(isinstance(event, events.Failed) for event in heard), "the other one's trouble is its echo"
    again: list[events.TrainEvent] = []

    async def hear(event: events.TrainEvent) -> None:
        again.append(event)

    await launcher.train(resumed(spec), tmp_path, hear)
    assert [event.step for event in again if isinstance(event, events.Saved)] == [4, 8, 12, STEPS]
    steps = [event.step for event in again if isinstance(event, events.Stepped)]
    assert steps == list(range(steps[0], STEPS + 1)) and steps[0] >= 6
    assert_equal_except_for_rounding(spec, alone)


def test_a_sharded_training_continues_one_process_s_and_is_continued_by_one(
    tmp_path: Path, base: Path, alone: TrainSpec
) -> None:
    """One process makes the first steps, two with a part each continue until SIGTERM, and one makes the rest."""
    spec = make(tmp_path, base, deepspeed={"zero_optimization": {"stage": 3}})
    asked = 0

    def is_stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked > 10

    with pytest.raises(Stopped):
        train(spec, lambda event: None, is_stopping)
    spec = resumed(spec)
    write_json(tmp_path / "spec.json", spec)
    command = [sys.executable, *torchrun(2), "-m", "baker.training.run", str(tmp_path / "spec.json")]
    heard: list[events.TrainEvent] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for line in process.stdout:
            heard.append(events.decode(line))
            if isinstance(heard[-1], events.Stepped) and heard[-1].step == 9:
                process.terminate()
    assert process.returncode != 0 and isinstance(heard[-1], events.Kept) and heard[-1].step >= 9
    assert warnings_of(heard) == []
    resumed_event = next(event for event in heard if isinstance(event, events.Resumed))
    assert 1 <= resumed_event.step < 9
    last: list[events.TrainEvent] = []
    train(resumed(spec), last.append)
    assert next(event for event in last if isinstance(event, events.Resumed)).step == heard[-1].step
    assert_equal_except_for_rounding(spec, alone)
