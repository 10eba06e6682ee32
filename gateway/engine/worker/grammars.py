"""Grammars are compiled beside the engine's work, and not for ever. Called in the process of vLLM's engine core.

vLLM compiles them at the engine's own priority, on a CPU of two cores one at a time, and waits for each as long as it
takes. So one schema (fifty hostnames by pattern take minutes with SmolLM2's vocabulary) made four tokens for somebody
else take 15 s, and every other grammar wait for its end. A thread can't be stopped, but it can be left behind.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

NICENESS = 10
"""Added to the engine's: a tenth of its share where both want the same core."""
PATIENCE_SECONDS = 30.0
MAX_LEFT_BEHIND = 4
"""Threads that go on with what nobody waits for; as long as there are so many, no other grammar is begun."""


class Answer(Future[Any]):
    """A grammar to be. vLLM asks whether it is `done` at every step of the engine."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def done(self) -> bool:
        self._look()
        return super().done()


class Compiler:
    """In place of vLLM's ThreadPoolExecutor: so many at a time, first come first, each in a thread of its own."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: deque[tuple[Answer, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._running: dict[Answer, float] = {}
        """Until when each is waited for, in monotonic seconds."""
        self._left_behind: set[Answer] = set()
        self._lock = threading.RLock()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Answer:
        answer = Answer(self._look)
        with self._lock:
            self._waiting.append((answer, work, arguments))
        self._look()
        return answer

    def shutdown(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: its threads keep no process from ending."""

    def _look(self) -> None:
        """Give up what takes too long, whether its client is still there or not, and begin what there is room for."""
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
    """Once, before vLLM builds its engine."""
    from vllm.v1.structured_output import StructuredOutputManager

    init = StructuredOutputManager.__init__

    def init_and_replace(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if hasattr(self, "executor"):
            self.executor.shutdown(wait=False)
            self.executor = Compiler(max(2, (os.cpu_count() or 1) // 2))

    StructuredOutputManager.__init__ = init_and_replace
