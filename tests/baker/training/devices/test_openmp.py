"""How a training's threads wait. benchmarks/README.md has the measured speed."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from baker.training.devices import openmp
from tests.service import ROOT

WAIT_SECONDS = 60


def threads() -> int:
    """Number of threads of this process."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def two_threads() -> None:
    import torch

    torch.set_num_threads(2)
    torch.ones(1 << 20).exp_()


def test_idle_teams_are_more_threads_than_cpus_until_they_stop(two_threads: None) -> None:
    before, teams = threads(), openmp.IdleTeams()
    teams.start()
    teams.start()
    assert threads() - before >= len(os.sched_getaffinity(0)), "with the two that compute, more than there are CPUs"
    teams.stop()
    deadline = time.monotonic() + WAIT_SECONDS
    while threads() > before and time.monotonic() < deadline:  # a team's threads end a little later
        time.sleep(0.01)
    assert threads() == before
    teams.start()
    assert threads() > before
    teams.stop()


@pytest.mark.parametrize(
    ("environment", "spins"),
    [({}, openmp.SPINS), ({"OMP_WAIT_POLICY": "PASSIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_the_operator_s_settings_are_kept(
    environment: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    openmp.set_spin_count()
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_the_settings_come_before_torch() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from baker.training.devices import openmp; sys.exit('torch' in sys.modules)",
    ]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_threads_sleep_only_while_the_cores_are_contended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher's decisions, on simulated waiting times."""
    monkeypatch.setattr(openmp, "CHECK_SECONDS", 0.001)
    waited, contended = [0.0], threading.Event()
    log: list[str] = []

    def seconds_waited() -> float:
        waited[0] += 1.0 if contended.is_set() else 0.0
        return waited[0]

    started, stopped = threading.Event(), threading.Event()
    monkeypatch.setattr(openmp, "core_wait_seconds", seconds_waited)
    monkeypatch.setattr(openmp.IdleTeams, "start", lambda self: (log.append("start"), started.set()))
    monkeypatch.setattr(openmp.IdleTeams, "stop", lambda self: (log.append("stop"), stopped.set()))
    with openmp.sleep_when_contended():
        assert stopped.wait(WAIT_SECONDS) and not started.is_set(), "free cores: no idle teams"
        stopped.clear()
        contended.set()
        assert started.wait(WAIT_SECONDS)
        contended.clear()
        assert stopped.wait(WAIT_SECONDS)
    assert log[-1] == "stop", "no idle thread stays"
    assert not any(thread.name == "contention" for thread in threading.enumerate())


def test_linux_reports_how_long_threads_wait_for_a_core() -> None:
    before = openmp.core_wait_seconds()
    work = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while openmp.core_wait_seconds() < before + 0.05 and time.monotonic() < deadline:
            sum(range(10_000))  # this process computes, and must wait for a core
        assert openmp.core_wait_seconds() >= before + 0.05
    finally:
        for process in work:
            process.kill()
            process.wait()
