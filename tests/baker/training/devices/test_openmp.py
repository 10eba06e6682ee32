"""How a training's threads wait. Whether that makes it faster is measured, see benchmarks/README.md."""

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


def pool() -> int:
    """Threads of this process."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def two_threads() -> None:
    import torch

    torch.set_num_threads(2)
    torch.ones(1 << 20).exp_()


def test_a_crowd_holds_more_threads_than_cpus_until_it_leaves(two_threads: None) -> None:
    before, crowd = pool(), openmp.IdleTeams()
    crowd.start()
    crowd.start()
    assert pool() - before >= len(os.sched_getaffinity(0)), "with the two that compute, more than there are CPUs"
    crowd.stop()
    deadline = time.monotonic() + WAIT_SECONDS
    while pool() > before and time.monotonic() < deadline:  # the last ones of a team end by themselves
        time.sleep(0.01)
    assert pool() == before
    crowd.start()
    assert pool() > before
    crowd.stop()


@pytest.mark.parametrize(
    ("environment", "spins"),
    [({}, openmp.SPINS), ({"OMP_WAIT_POLICY": "PASSIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_what_the_operator_has_set_stays(
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


def test_threads_sleep_while_the_cores_are_wanted_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch's own decisions, on what Linux would say."""
    monkeypatch.setattr(openmp, "CHECK_SECONDS", 0.001)
    waited, crowded = [0.0], threading.Event()
    log: list[str] = []

    def seconds_waited() -> float:
        waited[0] += 1.0 if crowded.is_set() else 0.0
        return waited[0]

    gathered, left = threading.Event(), threading.Event()
    monkeypatch.setattr(openmp, "core_wait_seconds", seconds_waited)
    monkeypatch.setattr(openmp.IdleTeams, "start", lambda self: (log.append("gather"), gathered.set()))
    monkeypatch.setattr(openmp.IdleTeams, "stop", lambda self: (log.append("leave"), left.set()))
    with openmp.sleep_when_contended():
        assert left.wait(WAIT_SECONDS) and not gathered.is_set(), "free cores are left at once"
        left.clear()
        crowded.set()
        assert gathered.wait(WAIT_SECONDS)
        crowded.clear()
        assert left.wait(WAIT_SECONDS)
    assert log[-1] == "leave", "nothing idle is left behind"
    assert not any(thread.name == "contention" for thread in threading.enumerate())


def test_linux_tells_how_long_threads_wait_for_a_core() -> None:
    before = openmp.core_wait_seconds()
    work = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while openmp.core_wait_seconds() < before + 0.05 and time.monotonic() < deadline:
            sum(range(10_000))  # this process computes, and is kept waiting
        assert openmp.core_wait_seconds() >= before + 0.05
    finally:
        for process in work:
            process.kill()
            process.wait()
