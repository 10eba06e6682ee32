"""Compiles grammars beside the engine's work, with a time limit. Installed in the process of vLLM's engine core.

vLLM 0.32 compiles them at the engine's own priority, on a CPU of two cores one at a time, and without a time limit. So
one schema (fifty hostnames by pattern take minutes with SmolLM2's vocabulary) delayed four tokens of another client by
15 s, and blocked every other grammar. A thread can't be stopped, but it can be abandoned.

Remove this when vLLM limits the time and the priority of its grammar compiler (`v1/structured_output/__init__.py`).
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

NICENESS = 10
"""Added to the engine's niceness: a tenth of its share of a core that both need."""
PATIENCE_SECONDS = 30.0
"""Time limit for a grammar."""
MAX_LEFT_BEHIND = 4
"""Number of abandoned threads that may still run; while there are this many, no other grammar is started."""


class Answer(Future[Any]):
    """A grammar that is being compiled. vLLM calls `done` at every step of the engine."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def done(self) -> bool:
        self._look()
        return super().done()


class Compiler:
    """Replaces vLLM's ThreadPoolExecutor: compiles `at_once` grammars at a time, in order, each in its own thread."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: deque[tuple[Answer, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._running: dict[Answer, float] = {}
        """Deadline of each, in monotonic seconds."""
        self._left_behind: set[Answer] = set()
        self._lock = threading.RLock()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Answer:
        answer = Answer(self._look)
        with self._lock:
            self._waiting.append((answer, work, arguments))
        self._look()
        return answer

    def shutdown(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the threads are daemons, so the process can end."""

    def _look(self) -> None:
        """Abandon grammars past their deadline, also those whose client has left, and start as many as may run."""
        with self._lock:
            for answer in [answer for answer, until in self._running.items() if time.monotonic() > until]:
                del self._running[answer]
                self._left_behind.add(answer)
                answer.set_exception(TimeoutError(f"the grammar was not compiled within {PATIENCE_SECONDS:.0f} s"))
            while self._waiting and len(self._running) < self._at_once and len(self._left_behind) < MAX_LEFT_BEHIND:
                answer, *job = self._waiting.popleft()
                self._running[answer] = time.monotonic() + PATIENCE_SECONDS
                threading.Thread(target=self._run, args=(answer, *job), name="grammar", daemon=True).start()

    def _run(self, answer: Answer, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS))
        grammar: Any = None
        error: Exception | None = None
        try:
            grammar = work(*arguments)
        except Exception as failure:
            error = failure
        with self._lock:
            self._left_behind.discard(answer)
            if self._running.pop(answer, None) is not None:
                answer.set_exception(error) if error is not None else answer.set_result(grammar)
        self._look()


def compile_beside_the_engine() -> None:
    """Call once, before vLLM builds its engine."""
    from vllm.v1.structured_output import StructuredOutputManager

    init = StructuredOutputManager.__init__

    def init_and_replace(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if hasattr(self, "executor"):
            self.executor.shutdown(wait=False)
            self.executor = Compiler(max(2, (os.cpu_count() or 1) // 2))

    StructuredOutputManager.__init__ = init_and_replace
