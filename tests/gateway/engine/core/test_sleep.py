"""The engine's sleep: requests wait for its end, and the engine must answer as before."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baker.errors import EngineError
from gateway.engine import Engine
from gateway.engine.core import sleep
from gateway.engine.core.canary import Canary
from gateway.engine.core.process import EngineProcess
from gateway.engine.core.sleep import ASLEEP, Sleep, fall_asleep, share_of
from gateway.engine.requests import kinds
from gateway.errors import CanaryError
from tests.gateway.engines import (
    HELLO,
    greedy,
    handlers_of,
    make_checkpoint,
    reply_to,
    until_working,
)

pytestmark = pytest.mark.anyio


async def test_a_sleeping_engine_refuses_requests_and_answers_as_before_when_awake(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, fields = make_checkpoint(tmp_path, 1), {"messages": HELLO, "max_tokens": 2}
    before = await greedy(engine, checkpoint)
    under_way = asyncio.create_task(greedy(engine, max_tokens=40))
    await until_working(engine)
    await engine.sleep()
    assert len((await under_way).response_ids) == 40, "a running request finishes first"
    assert engine.is_asleep and not engine.is_ready and not engine.is_dead
    monkeypatch.setattr(sleep, "WAIT_SECONDS", 0.01)
    reply = await reply_to(handlers_of(engine), kinds.CHAT, fields)
    assert reply.status == 503 and "Retry-After" in reply.headers and b"sleeps while a bake trains" in reply.body
    with pytest.raises(EngineError, match="sleeps"):
        await greedy(engine)
    monkeypatch.setattr(sleep, "WAIT_SECONDS", 60.0)
    waiting = asyncio.create_task(reply_to(handlers_of(engine), kinds.CHAT, fields))
    await engine.wake()
    assert (await waiting).status == 200 and engine.is_ready
    assert (await greedy(engine, checkpoint)).response_ids == before.response_ids
    assert engine.sleep_share == 0.0, "no memory becomes free on a CPU"


async def test_an_engine_that_wakes_up_with_other_answers_is_killed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[bool] = []

    async def other(*arguments: Any) -> None:
        raise CanaryError("other answers")

    with monkeypatch.context() as patched:
        patched.setattr(Canary, "check", other)
        patched.setattr(EngineProcess, "kill", lambda process: killed.append(engine.is_ready))
        await engine.sleep()
        await engine.wake()
    assert killed == [False], "before any request was served"
    await greedy(engine)


async def test_a_request_waits_for_the_end_of_the_sleep_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Sleep()
    await state.over()
    state.begin()
    waiting = asyncio.create_task(state.over())
    await asyncio.sleep(0)
    assert state.is_asleep and not waiting.done()
    state.end()
    await waiting
    state.begin()
    monkeypatch.setattr(sleep, "WAIT_SECONDS", 0.0)
    with pytest.raises(EngineError, match=ASLEEP):
        await state.over()


class Sleeper:
    """An engine that records how it is put to sleep."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    async def sleep(self, **settings: Any) -> None:
        self.calls.append(settings)


async def test_running_requests_finish_first_unless_they_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sleep, "POLL_SECONDS", 0.0)
    llm: Any = Sleeper()
    counts = iter([2, 1, 0])
    await fall_asleep(llm, lambda: next(counts))
    assert next(counts, None) is None, "it waited for all of them"
    monkeypatch.setattr(sleep, "DRAIN_SECONDS", 0.0)
    await fall_asleep(llm, lambda: 1)
    assert llm.calls == [{"level": 1, "mode": "abort"}] * 2


@pytest.mark.parametrize(("can_sleep", "share"), [(True, 0.6), (False, 0.0)])
def test_the_share_of_memory_is_what_the_engine_takes_if_it_can_sleep(can_sleep: bool, share: float) -> None:
    config = SimpleNamespace(
        cache_config=SimpleNamespace(gpu_memory_utilization=0.6),
        model_config=SimpleNamespace(enable_sleep_mode=can_sleep),
    )
    llm: Any = SimpleNamespace(vllm_config=config)
    assert share_of(llm) == share
