"""A streamed answer: its order, and its end in the engine however its reader leaves."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from gateway.engine import Engine, Handlers, StreamReply
from gateway.engine.adapters.slots import Lease
from gateway.engine.requests import kinds
from tests.gateway.engines import (
    handlers_of,
    make_checkpoint,
    reply_to,
)

pytestmark = pytest.mark.anyio

LONG: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 400,
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
}


@pytest.fixture
def handlers(engine: Engine) -> Handlers:
    return handlers_of(engine)


async def started(handlers: Handlers, engine: Engine, tmp_path: Path) -> tuple[StreamReply, str]:
    """A stream on a new adapter, with one event read."""
    checkpoint = make_checkpoint(tmp_path, 1)
    await engine.load(checkpoint.name, checkpoint.path)
    reply = await reply_to(handlers, kinds.CHAT, LONG, model=checkpoint.name)
    assert isinstance(reply, StreamReply)
    await anext(reply)
    assert engine.in_flight(checkpoint.name) == 1
    assert engine.running().get_num_unfinished_requests() == 1
    return reply, checkpoint.name


async def check_ended(engine: Engine, name: str) -> None:
    for _ in range(10):  # asyncio closes a garbage-collected generator in a separate task
        await asyncio.sleep(0)
    assert engine.in_flight(name) == 0
    assert engine.running().get_num_unfinished_requests() == 0


async def test_a_closed_stream_ends_in_the_engine(handlers: Handlers, engine: Engine, tmp_path: Path) -> None:
    reply, name = await started(handlers, engine, tmp_path)
    await reply.aclose()
    await reply.aclose()
    await check_ended(engine, name)


async def test_a_cancelled_stream_ends_in_the_engine(handlers: Handlers, engine: Engine, tmp_path: Path) -> None:
    reply, name = await started(handlers, engine, tmp_path)

    async def read() -> None:
        async for _ in reply:
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await check_ended(engine, name)


async def test_a_dropped_stream_ends_in_the_engine(handlers: Handlers, engine: Engine, tmp_path: Path) -> None:
    reply, name = await started(handlers, engine, tmp_path)
    del reply
    gc.collect()
    await check_ended(engine, name)


class Source:
    """Events of a stream, and whether they were closed; one adapter's lease."""

    def __init__(self) -> None:
        self.is_closed = False
        self.releases = 0
        adapter: Any = object()
        self.lease = Lease(adapter, self._release)

    def _release(self, adapter: Any) -> None:
        self.releases += 1

    async def events(self, *texts: str, error: Exception | None = None) -> AsyncGenerator[str, None]:
        try:
            for text in texts:
                yield text
            if error is not None:
                raise error
        finally:
            self.is_closed = True

    def reply(self, first: list[str], *rest: str, error: Exception | None = None) -> StreamReply:
        events = self.events(*rest, error=error)
        return StreamReply(first, events, events, self.lease)


async def test_events_that_were_held_back_come_first_and_the_end_releases_the_adapter() -> None:
    source = Source()
    reply = source.reply(["a", "b"], "c")
    assert [await anext(reply) for _ in range(3)] == [b"a", b"b", b"c"]
    assert source.releases == 0
    assert [event async for event in reply] == []
    assert (source.releases, source.is_closed) == (1, True)


async def test_an_error_releases_the_adapter() -> None:
    source = Source()
    reply = source.reply([], "a", error=RuntimeError("broken"))
    assert await anext(reply) == b"a"
    with pytest.raises(RuntimeError, match="broken"):
        await anext(reply)
    assert source.releases == 1


async def test_closing_before_the_first_event_drops_what_was_held_back() -> None:
    source = Source()
    reply = source.reply(["a"], "b")
    await reply.aclose()
    assert [event async for event in reply] == []
    assert source.releases == 1


async def test_a_dropped_reply_releases_the_adapter_at_once() -> None:
    source = Source()
    reply = source.reply(["a"])
    del reply
    gc.collect()
    assert source.releases == 1
