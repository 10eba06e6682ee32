"""How the threads of a training wait for each other: spinning while the cores are free, asleep while others need them.

A step is thousands of operations that OpenMP splits among threads; at the end of each, all wait for the slowest. Waking
a sleeping thread takes 50 µs. SmolLM2-135M, micro batch 2, 2 cores: 450 tokens/s with threads that spin, 250 with
threads that sleep; beside a process that keeps a core busy 90 and 260.

libgomp's threads spin GOMP_SPINCOUNT times before they sleep, but hardly at all (100 times) while a process holds more
of them than there are CPUs (its manual, GOMP_SPINCOUNT). So idle threads, each with an OpenMP team of its own, make all
others sleep; when they end, the others spin again. Results do not depend on it. Other OpenMP libraries ignore it.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

SPINS = "10000"
"""Value of GOMP_SPINCOUNT; 3,000 and 30,000 are as good."""
CHECK_SECONDS = 0.25
"""Time between two looks at how long threads waited for a core."""
CONTENDED_SHARE = 0.1
"""Seconds that threads waited for a core, per second, from which the cores count as contended. Measured: 0.01 alone,
0.5 and more beside a busy process."""
CALM_CHECKS = 8
"""Number of checks in a row without contention until the cores count as free again."""


def set_spin_count() -> None:
    """Sets how long libgomp's threads spin. Call it before torch is imported. The operator's own settings are kept."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


@contextmanager
def sleep_when_contended() -> Iterator[None]:
    """Inside it, this process's threads wait asleep while other processes need the cores, and spin otherwise."""
    is_over = threading.Event()
    watcher = threading.Thread(target=_watch_contention, args=(is_over,), name="contention", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()


def _watch_contention(is_over: threading.Event) -> None:
    teams, calm_checks = IdleTeams(), 0
    last_check, last_waited = monotonic(), core_wait_seconds()
    while not is_over.wait(CHECK_SECONDS):
        now, waited = monotonic(), core_wait_seconds()
        if waited - last_waited > CONTENDED_SHARE * (now - last_check):
            calm_checks = 0
            teams.start()
        elif (calm_checks := calm_checks + 1) == CALM_CHECKS:
            teams.stop()
        last_check, last_waited = now, waited
    teams.stop()


def core_wait_seconds() -> float:
    """Seconds that this process's threads were runnable without a core, summed; 0 where Linux does not report it."""
    nanoseconds = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        try:
            nanoseconds += int(file.read_text().split()[1])
        except (OSError, IndexError, ValueError):  # a thread that has just ended
            continue
    return nanoseconds / 1e9


class IdleTeams:
    """Idle threads with OpenMP teams, so many that the process holds more threads than there are CPUs."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._leaders: list[threading.Thread] = []

    def start(self) -> None:
        """Does nothing if they run already, or if torch computes with one thread."""
        import torch

        team_size = torch.get_num_threads()
        if self._leaders or team_size < 2:
            return
        self._is_over.clear()
        missing = len(os.sched_getaffinity(0)) + 1 - team_size
        for _ in range(max(1, -(-missing // (team_size - 1)))):
            has_team = threading.Event()
            leader = threading.Thread(target=self._idle, args=(has_team,), name="idle-team", daemon=True)
            leader.start()
            has_team.wait()
            self._leaders.append(leader)

    def stop(self) -> None:
        self._is_over.set()
        for leader in self._leaders:
            leader.join()
        self._leaders.clear()

    def _idle(self, has_team: threading.Event) -> None:
        import torch

        torch.ones(1 << 20).exp_()  # large enough to be split, which gives this thread a team
        has_team.set()
        self._is_over.wait()
