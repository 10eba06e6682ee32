"""An engine that dies, hangs, answers differently or does not start."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from baker.errors import EngineError
from gateway.engine.core import supervisor
from gateway.engine.core.sleep import ASLEEP
from gateway.engine.core.supervisor import Death, Supervisor, _delay_seconds
from gateway.errors import CanaryError
from gateway.services import Services
from tests.fakes import FakeEngine
from tests.gateway.application import client_of

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
TICK = 0.001


class MortalEngine(FakeEngine):
    """Each start takes the next of `fates`: an error, or None for an engine that runs."""

    def __init__(self, *fates: Exception | None) -> None:
        super().__init__()
        self.fates = list(fates)
        self.is_hanging = False
        self.stops = self.kills = self.probes = 0
        self.ready.clear()

    async def start(self) -> None:
        fate = self.fates.pop(0) if self.fates else None
        if fate is not None:
            raise fate
        self.is_dead, self.is_hanging = False, False
        self.ready.set()

    async def stop(self) -> None:
        self.stops += 1
        self.ready.clear()

    def die(self) -> None:
        self.is_dead = True
        self.ready.clear()

    def kill(self) -> None:
        self.kills += 1
        self.die()

    async def probe(self) -> None:
        self.probes += 1
        if self.is_hanging:
            await asyncio.Event().wait()
        self.steps += 1


class Watched:
    """A running supervisor, and what it reported."""

    def __init__(self, engine: MortalEngine, monkeypatch: pytest.MonkeyPatch, *, stall_ticks: float = 1e9) -> None:
        monkeypatch.setattr(supervisor, "TICK_SECONDS", TICK)
        monkeypatch.setattr(supervisor, "FIRST_DELAY_SECONDS", TICK)
        self.engine = engine
        self.reports: list[Any] = []
        self.supervisor = Supervisor(engine, stall_seconds=stall_ticks * TICK)

    async def __aenter__(self) -> "Watched":
        self.task = asyncio.create_task(self.supervisor.run(lambda: self.reports.append("ready"), self.reports.append))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def until(self, test: Callable[[], Any]) -> None:
        """Wait until `test()` is true. Raises: TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not test():  # noqa: ASYNC110 - many things are waited for
                await asyncio.sleep(0)


async def test_if_the_first_start_fails_the_operator_gets_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MortalEngine(EngineError("no such model"))
    async with Watched(engine, monkeypatch) as watched:
        await watched.task
    assert [str(report) for report in watched.reports] == ["no such model"]
    assert not watched.supervisor.is_ready


async def test_after_a_death_another_engine_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MortalEngine()
    async with Watched(engine, monkeypatch) as watched:
        assert watched.supervisor.trouble == "the engine is starting"
        await watched.until(lambda: watched.supervisor.is_ready)
        assert watched.supervisor.trouble is None
        engine.die()
        assert watched.supervisor.trouble == "the engine died"
        await watched.until(lambda: watched.supervisor.starts == 2)
        assert watched.supervisor.is_ready
    assert watched.reports == ["ready"]
    assert watched.supervisor.deaths == {Death.DIED: 1}
    assert engine.stops == 1


async def test_starts_that_fail_are_repeated_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MortalEngine(None, EngineError("no memory"), CanaryError("other answers"), None)
    async with Watched(engine, monkeypatch) as watched:
        await watched.until(lambda: watched.supervisor.is_ready)
        engine.die()
        await watched.until(lambda: watched.supervisor.deaths[Death.NOT_STARTED])
        assert watched.supervisor.reason == "no memory"
        assert (watched.supervisor.trouble or "").startswith("the engine could not be started; starting another one")
        await watched.until(lambda: watched.supervisor.deaths[Death.WRONG])
        assert not watched.supervisor.is_ready
        await watched.until(lambda: watched.supervisor.is_ready)
    assert watched.supervisor.deaths == {Death.DIED: 1, Death.NOT_STARTED: 1, Death.WRONG: 1}


async def test_an_engine_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MortalEngine()
    async with Watched(engine, monkeypatch, stall_ticks=40) as watched:
        await watched.until(lambda: watched.supervisor.is_ready)
        engine.is_hanging = True
        await watched.until(lambda: not watched.supervisor.is_ready)
        assert "no sign of life" in (watched.supervisor.trouble or "")
        assert engine.kills == 0, "it may only be slow"
        await watched.until(lambda: watched.supervisor.starts == 2)
    assert (engine.kills, engine.stops) == (1, 1)
    assert watched.supervisor.deaths == {Death.HUNG: 1}


async def test_an_idle_engine_is_probed_now_and_then_and_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MortalEngine()
    async with Watched(engine, monkeypatch, stall_ticks=40) as watched:
        await watched.until(lambda: engine.probes > 20)
    assert watched.supervisor.starts == 1 and not watched.supervisor.deaths


async def test_a_sleeping_engine_is_not_ready_and_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MortalEngine()
    async with Watched(engine, monkeypatch, stall_ticks=40) as watched:
        await watched.until(lambda: watched.supervisor.is_ready)
        engine.is_asleep = engine.is_hanging = True
        engine.ready.clear()
        for _ in range(200):
            await asyncio.sleep(TICK)
        assert watched.supervisor.trouble == ASLEEP and not watched.supervisor.is_ready
        engine.is_asleep = engine.is_hanging = False
        engine.ready.set()
        await watched.until(lambda: watched.supervisor.is_ready)
    assert (watched.supervisor.starts, engine.kills) == (1, 0)


async def test_an_adapter_is_recorded_once_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, recorded = MortalEngine(), asyncio.Event()

    async def record() -> None:
        engine.wants_canary = False
        recorded.set()

    engine.record_canary = record  # type: ignore[method-assign]
    async with Watched(engine, monkeypatch) as watched:
        await watched.until(lambda: watched.supervisor.is_ready)
        engine.wants_canary = True
        await watched.until(recorded.is_set)


async def test_an_engine_that_makes_progress_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its first token takes: a prompt in many pieces takes many steps."""
    engine = MortalEngine()
    async with Watched(engine, monkeypatch, stall_ticks=40) as watched:
        await watched.until(lambda: watched.supervisor.is_ready)
        engine.is_hanging = True
        for _ in range(200):
            engine.steps += 1
            await asyncio.sleep(TICK)
    assert watched.supervisor.starts == 1 and engine.kills == 0


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_up_to_a_minute() -> None:
    delays = [_delay_seconds(failures) for failures in range(1, 12)]
    assert delays[:4] == [0.0, 1.0, 2.0, 4.0]
    assert delays == sorted(delays) and delays[-1] == _delay_seconds(10**6) == 60.0


async def test_health_gives_the_reason_to_all_and_details_to_the_operator(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = services.engine
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 1000.0)  # no tick between the death and the requests
    async with client_of(services) as client:
        while not services.supervisor.starts:  # noqa: ASYNC110 - the first start is under way
            await asyncio.sleep(0)
        engine.is_dead = True
        engine.ready.clear()
        services.supervisor.reason = "of /some/path"
        operator_health = (await client.get("/v1/health")).json()
        del client.headers["Authorization"]
        public_health = (await client.get("/v1/health")).json()
        ready = await client.get("/ready")
    assert public_health["status"] == "degraded" and public_health["detail"].startswith("the engine died")
    assert "/some/path" in operator_health["detail"] and "/some/path" not in public_health["detail"]
    assert ready.status_code == 503 and ready.json() == public_health
