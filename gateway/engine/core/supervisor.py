"""Keeps an engine alive: starts it, watches its progress, and starts another if it dies, hangs or answers differently.

Jobs and adapters need nothing from here: jobs wait until the engine is ready and continue after the last item that they
saved; adapters are loaded again by the next request for them.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from baker.errors import BakeryError, EngineError
from gateway.engine.core.sleep import ASLEEP
from gateway.errors import CanaryError

log = logging.getLogger(__name__)

TICK_SECONDS = 0.2
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 1.0, 60.0
STABLE_SECONDS = 60.0
"""An engine that lived this long ends a series of failures: earlier ones do not delay the next start."""
RECORD_AGAIN_SECONDS = 60.0
DEATH_SECONDS = 10.0
"""Killed processes are noticed as dead within a tenth of a second."""


class Death(StrEnum):
    """Why an engine ended, or did not start."""

    DIED = "died"
    HUNG = "hung"
    WRONG = "wrong"
    """It did not answer as the engine before it did."""
    NOT_STARTED = "not_started"


DESCRIPTIONS = {
    Death.DIED: "the engine died",
    Death.HUNG: "the engine hung and was killed",
    Death.WRONG: "the engine did not answer as before",
    Death.NOT_STARTED: "the engine could not be started",
}


class SupervisedEngine(Protocol):
    """What the supervisor needs of the engine; see `engine.Engine`."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def is_dead(self) -> bool: ...

    @property
    def is_asleep(self) -> bool: ...

    @property
    def steps(self) -> int: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def kill(self) -> None: ...

    async def probe(self) -> None: ...

    @property
    def wants_canary(self) -> bool: ...

    async def record_canary(self) -> None: ...


class Supervisor:
    def __init__(self, engine: SupervisedEngine, *, stall_seconds: float) -> None:
        """
        Args:
            stall_seconds: a running engine that makes no progress for this long is killed. After an eighth of that
                time it is asked for a token, and after a quarter it counts as not ready.
        """
        self._engine = engine
        self._stall_seconds = stall_seconds
        self._silent_seconds = 0.0
        self._trouble: str | None = "the engine is starting"
        self.starts = 0
        """Number of engines that became ready."""
        self.deaths: Counter[Death] = Counter()
        self.reason: str | None = None
        """Message of the last failure; may name paths of this machine."""
        self.proved_at: float | None = None
        """Time when an engine last passed the canary, in Unix seconds."""

    @property
    def is_ready(self) -> bool:
        """Whether the engine has made progress lately and would answer a request now."""
        return self._engine.is_ready and not self._is_silent

    @property
    def trouble(self) -> str | None:
        """Why the engine is not ready, without private details; None if it is ready."""
        if self.is_ready:
            return None
        if self._engine.is_asleep:
            return ASLEEP
        if self._engine.is_ready:
            return f"the engine has given no sign of life for {self._silent_seconds:.0f} s"
        if self._trouble is None:  # dead, and the next tick will notice
            return DESCRIPTIONS[Death.DIED]
        return self._trouble

    @property
    def _is_silent(self) -> bool:
        return self._silent_seconds >= self._stall_seconds / 4

    async def run(self, on_ready: Callable[[], None], on_failure: Callable[[BaseException], None]) -> None:
        """Keep an engine alive until cancelled.

        Args:
            on_ready: called when the first engine is ready.
            on_failure: called if the first one can't be started: the settings are wrong, so another try would fail too.
        """
        failures = 0
        while True:
            is_stable = False
            death = await self._start()
            if death is None:
                if self.starts == 1:
                    on_ready()
                began = time.monotonic()
                death = await self._watch()
                is_stable = time.monotonic() - began >= STABLE_SECONDS
                await self._engine.stop()
            elif self.starts == 0:
                on_failure(EngineError(str(self.reason)))
                return
            self.deaths[death] += 1
            failures = 1 if is_stable else failures + 1
            delay = _delay_seconds(failures)
            self._trouble = f"{DESCRIPTIONS[death]}; starting another one" + (f" in {delay:.0f} s" if delay else "")
            log.error("%s", self._trouble)
            await asyncio.sleep(delay)

    async def _start(self) -> Death | None:
        try:
            await self._engine.start()
        except Exception as error:
            self.reason = str(error)
            log.exception("the engine could not be started")
            return Death.WRONG if isinstance(error, CanaryError) else Death.NOT_STARTED
        self.starts += 1
        self._trouble = None
        self._silent_seconds = 0.0
        self.proved_at = time.time()
        return None

    async def _watch(self) -> Death:
        """Wait until the engine has died, or has hung and was killed.

        Progress is a step of the engine, not a token: a long prompt takes many steps, in pieces, before its first
        token. Time is counted in ticks, so a service that was itself suspended does not blame the engine.
        """
        probe: asyncio.Future[None] = _done()
        recording: asyncio.Future[None] = _done()
        steps = self._engine.steps
        try:
            while not self._engine.is_dead:
                await asyncio.sleep(TICK_SECONDS)
                if self._engine.wants_canary and recording.done():
                    recording = asyncio.create_task(self._record())
                if self._engine.steps != steps or self._engine.is_asleep:
                    steps, self._silent_seconds = self._engine.steps, 0.0
                    continue
                self._silent_seconds += TICK_SECONDS
                if self._silent_seconds >= self._stall_seconds:
                    await self._kill_hung()
                    return Death.HUNG
                if self._silent_seconds >= self._stall_seconds / 8 and probe.done():
                    probe = asyncio.create_task(self._probe())
            self.reason = "its processes ended; vLLM's reason is in the log above"
            return Death.DIED
        finally:
            probe.cancel()
            recording.cancel()

    async def _record(self) -> None:
        try:
            await self._engine.record_canary()
        except (BakeryError, OSError) as error:
            log.warning("no adapter is recorded yet to check later engines with: %s", error)
            await asyncio.sleep(RECORD_AGAIN_SECONDS)

    async def _kill_hung(self) -> None:
        self.reason = f"it made no progress for {self._silent_seconds:.0f} s although it was asked for a token"
        log.error("killing the engine, which hangs: %s", self.reason)
        self._engine.kill()
        waited = 0.0
        while not self._engine.is_dead and waited < DEATH_SECONDS:
            await asyncio.sleep(TICK_SECONDS)
            waited += TICK_SECONDS

    async def _probe(self) -> None:
        try:
            await self._engine.probe()
        except Exception as error:  # the engine died or stays silent: `_watch` notices both
            log.debug("probe: %s", error)


def _done() -> "asyncio.Future[None]":
    """Takes the place of a task that was not started yet."""
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


def _delay_seconds(failures: int) -> float:
    """Delay before the start that follows this number of failures in a row; 0 after the first one."""
    return 0.0 if failures <= 1 else min(FIRST_DELAY_SECONDS * 2.0 ** min(failures - 2, 16), MAX_DELAY_SECONDS)
