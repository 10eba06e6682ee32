"""Answers that the engine gives up."""

import asyncio
from typing import Any

import msgspec
import pytest

from baker.errors import EngineError
from baker.types import SampleRequest
from gateway.engine import Engine, Reply, StreamReply
from gateway.engine.patches.aborts import ABORTED
from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from tests.gateway.engines import handlers_of, reply_to, until_working

pytestmark = pytest.mark.anyio

LONG: dict[Kind, dict[str, Any]] = {
    kinds.CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 400, "ignore_eos": True},
    kinds.COMPLETION: {"prompt": "Hi", "max_tokens": 400, "ignore_eos": True},
    kinds.RESPONSES: {"input": "Hi", "max_output_tokens": 400, "ignore_eos": True},
    kinds.MESSAGES: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 400},
}
KINDS = pytest.mark.parametrize("kind", LONG, ids=lambda kind: kind.name)


async def give_up(engine: Engine) -> None:
    """End all requests as a stopping engine does."""
    await engine.running().pause_generation(mode="abort", clear_cache=False)
    await engine.running().resume_generation()


@KINDS
async def test_a_whole_answer_that_was_given_up_is_503(engine: Engine, kind: Kind) -> None:
    task = asyncio.create_task(reply_to(handlers_of(engine), kind, LONG[kind]))
    await until_working(engine)
    await give_up(engine)
    reply = await task
    assert isinstance(reply, Reply) and reply.status == 503
    assert msgspec.json.decode(reply.body)["error"]["message"] == ABORTED


@KINDS
async def test_a_stream_that_was_given_up_ends_with_an_error(engine: Engine, kind: Kind) -> None:
    reply = await reply_to(handlers_of(engine), kind, {**LONG[kind], "stream": True})
    assert isinstance(reply, StreamReply)
    events = [await anext(reply)]
    await give_up(engine)
    events += [event async for event in reply]
    last = [event for event in events if event != b"data: [DONE]\n\n"][-1].decode()
    assert ABORTED in last and ("event: error" in last or last.startswith('data: {"error"'))
    assert not any(b'"abort"' in event for event in events)


async def test_a_sample_that_was_given_up_is_an_error(engine: Engine) -> None:
    request = SampleRequest([1, 2, 3], max_tokens=400, extra={"ignore_eos": True})
    task = asyncio.create_task(engine.generation.sample(request))
    await until_working(engine)
    await give_up(engine)
    with pytest.raises(EngineError, match="gave this answer up"):
        await task
