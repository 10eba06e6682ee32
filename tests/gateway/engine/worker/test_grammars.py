"""Compiling grammars: the work ends on command, and the tests set the clock."""

import asyncio
import contextlib
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from baker.types import SampleRequest
from gateway.engine import Engine
from gateway.engine.worker import grammars
from gateway.engine.worker.grammars import MAX_LEFT_BEHIND, NICENESS, PATIENCE_SECONDS, Compiler

SECONDS = 60.0
"""Limit for threads that do not wait for anything."""


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Work:
    """A grammar whose compilation ends once `may_end` is set."""

    def __init__(self) -> None:
        self.is_begun, self.may_end = threading.Event(), threading.Event()
        self.niceness = 0

    def __call__(self, name: str) -> str:
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.is_begun.set()
        assert self.may_end.wait(SECONDS)
        return name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(grammars, "time", clock)
    return clock


def test_grammars_are_compiled_at_a_lower_priority_and_results_and_errors_are_passed_on() -> None:
    compiler, work = Compiler(1), Work()
    work.may_end.set()
    assert compiler.submit(work, "a").result(SECONDS) == "a"
    assert work.niceness == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < work.niceness

    def fail() -> None:
        raise ValueError("no grammar")

    assert isinstance(compiler.submit(fail).exception(SECONDS), ValueError)


def test_a_grammar_that_takes_too_long_fails_and_the_next_one_starts(clock: Clock) -> None:
    compiler, slow, quick = Compiler(1), Work(), Work()
    quick.may_end.set()
    overdue, waiting = compiler.submit(slow, "slow"), compiler.submit(quick, "quick")
    assert slow.is_begun.wait(SECONDS)
    clock.now += PATIENCE_SECONDS
    assert not overdue.done() and not waiting.done() and not quick.is_begun.is_set()
    clock.now += 1
    waiting.done()  # as the engine asks; it does not ask for a grammar whose client has left
    assert isinstance(overdue.exception(SECONDS), TimeoutError)
    assert waiting.result(SECONDS) == "quick"
    slow.may_end.set()


def test_no_grammar_is_started_while_the_most_abandoned_ones_still_run(clock: Clock) -> None:
    compiler, slow = Compiler(MAX_LEFT_BEHIND), [Work() for _ in range(MAX_LEFT_BEHIND)]
    for work in slow:
        compiler.submit(work, "slow")
        assert work.is_begun.wait(SECONDS)
    clock.now += PATIENCE_SECONDS + 1
    late = Work()
    late.may_end.set()
    answer = compiler.submit(late, "late")
    assert not answer.done() and not late.is_begun.is_set()
    slow[0].may_end.set()
    assert answer.result(SECONDS) == "late"
    for work in slow:
        work.may_end.set()


HOST_NAME = r"^([a-z0-9]{1,60}\.){1,30}[a-z]{2,20}$"
SCHEMA = {
    "type": "object",
    "properties": {f"host{number}": {"type": "string", "pattern": HOST_NAME} for number in range(8)},
}


def priorities(tasks: Path) -> set[int]:
    values = set()
    for task in tasks.iterdir():
        with contextlib.suppress(ProcessLookupError):
            values.add(os.getpriority(os.PRIO_PROCESS, int(task.name)))
    return values


@pytest.mark.anyio
async def test_the_engine_compiles_grammars_at_a_lower_priority(engine: Engine) -> None:
    """Until the answer begins, one thread of its core has a lower priority."""
    (core,) = (child for child in multiprocessing.active_children() if child.name.startswith("EngineCore"))
    request = SampleRequest([1, 2, 3], max_tokens=4, extra={"structured_outputs": {"json": SCHEMA}})
    answer = asyncio.create_task(engine.generation.sample(request))
    seen = set[int]()
    while not answer.done() and len(seen) < 2:
        seen |= priorities(Path(f"/proc/{core.pid}/task"))
        await asyncio.sleep(0)
    assert (await answer).text.startswith("{")
    usual = os.getpriority(os.PRIO_PROCESS, core.pid or 0)
    assert seen == {usual, min(19, usual + NICENESS)}
