"""How the threads of a training wait for each other: awake while the cores are free, asleep while others want them.

A step is thousands of operations that OpenMP shares out among threads; at the end of each they wait for the slowest.
To wake a sleeping one takes 50 µs. SmolLM2-135M, micro batch 2, 2 cores: 450 tokens/s with threads that spin, 250 with
threads that sleep; beside a process that keeps a core busy 90 and 260.

libgomp's threads spin GOMP_SPINCOUNT times before they sleep, but hardly at all (100 times) while a process holds more
of them than there are CPUs (its manual, GOMP_SPINCOUNT). So a thread with an idle team of its own makes all others
sleep, and its end lets them spin again. Results don't depend on it. Other OpenMPs ignore all that.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

SPINS = "10000"
"""3,000 and 30,000 are as good."""
LOOK_SECONDS = 0.25
CROWDED = 0.1
"""Seconds that threads waited for a core, in a second: 0.01 alone, 0.5 and more beside a busy process."""
CALM_LOOKS = 8
"""In a row, until the cores count as free again."""


def prepare() -> None:
    """Must come before torch is imported. What the operator has set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


@contextmanager
def considerate() -> Iterator[None]:
    """Within it this process's threads wait asleep while others want the cores, and awake otherwise."""
    is_over = threading.Event()
    watch = threading.Thread(target=_watch, args=(is_over,), name="waiting", daemon=True)
    watch.start()
    try:
        yield
    finally:
        is_over.set()
        watch.join()


def _watch(is_over: threading.Event) -> None:
    crowd, calm = Crowd(), 0
    at, waited = monotonic(), seconds_waited()
    while not is_over.wait(LOOK_SECONDS):
        now, total = monotonic(), seconds_waited()
        if total - waited > CROWDED * (now - at):
            calm = 0
            crowd.gather()
        elif (calm := calm + 1) == CALM_LOOKS:
            crowd.leave()
        at, waited = now, total
    crowd.leave()


def seconds_waited() -> float:
    """How long this process's threads have been ready and had no core, in all; always 0 where Linux does not tell."""
    total = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[1])
        except (OSError, IndexError, ValueError):  # a thread that has just ended
            continue
    return total / 1e9


class Crowd:
    """Idle threads beyond the number of CPUs."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._members: list[threading.Thread] = []

    def gather(self) -> None:
        import torch

        threads = torch.get_num_threads()
        if self._members or threads < 2:
            return
        self._is_over.clear()
        missing = len(os.sched_getaffinity(0)) + 1 - threads
        for _ in range(max(1, -(-missing // (threads - 1)))):
            is_there = threading.Event()
            member = threading.Thread(target=self._idle, args=(is_there,), name="crowd", daemon=True)
            member.start()
            is_there.wait()
            self._members.append(member)

    def leave(self) -> None:
        self._is_over.set()
        for member in self._members:
            member.join()
        self._members.clear()

    def _idle(self, is_there: threading.Event) -> None:
        import torch

        torch.ones(1 << 20).exp_()  # shared out, so that this thread has a team
        is_there.set()
        self._is_over.wait()
