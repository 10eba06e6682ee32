"""Progress, then a result or an error, as events; a client that leaves ends the work."""

import asyncio
from typing import Any

import pytest
from litestar import Litestar, Request, Response, post
from litestar.testing import AsyncTestClient

from baker.errors import ConflictError, EngineError
from gateway.http import progress_stream as module
from gateway.http.errors import bread_error
from gateway.http.progress_stream import OnProgress, progress_stream

pytestmark = pytest.mark.anyio


def client_of(work: Any) -> AsyncTestClient[Litestar]:
    @post("/", status_code=200)
    async def handler(request: Request[Any, Any, Any]) -> Response[Any]:
        return await progress_stream(request, work)

    return AsyncTestClient(Litestar([handler], exception_handlers={Exception: bread_error}, openapi_config=None))


async def test_a_result_comes_last() -> None:
    async def work(on_progress: OnProgress) -> dict[str, int]:
        for done in range(3):
            on_progress(done, 2)
            await asyncio.sleep(0)
        return {"kl": 1}

    async with client_of(work) as client:
        answer = await client.post("/")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    progress = "".join(f'event: progress\ndata: {{"done":{done},"total":2}}\n\n' for done in range(3))
    assert answer.text == progress + 'event: result\ndata: {"kl":1}\n\n'


async def test_work_without_progress_has_only_a_result() -> None:
    async def work(on_progress: OnProgress) -> int:
        return 7

    async with client_of(work) as client:
        assert (await client.post("/")).text == "event: result\ndata: 7\n\n"


async def test_an_error_before_the_first_progress_keeps_its_status() -> None:
    async def work(on_progress: OnProgress) -> None:
        await asyncio.sleep(0)
        raise ConflictError("taken")

    async with client_of(work) as client:
        answer = await client.post("/")
    assert (answer.status_code, answer.json()["code"]) == (409, "RESOURCE_CONFLICT")


async def test_a_later_error_is_the_last_event_with_its_body() -> None:
    async def work(on_progress: OnProgress) -> None:
        on_progress(0, 1)
        raise EngineError("the engine is away")

    async with client_of(work) as client:
        answer = await client.post("/")
    assert answer.status_code == 200
    body = '{"message":"the engine is away","code":"UNAVAILABLE","error":"the engine is away"}'
    assert answer.text.endswith(f"event: error\ndata: {body}\n\n")


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE_SECONDS", 0.01)

    async def work(on_progress: OnProgress) -> int:
        on_progress(0, 1)
        await asyncio.sleep(0.1)
        return 1

    async with client_of(work) as client:
        assert ": keep-alive\n\n" in (await client.post("/")).text


async def test_closing_the_events_ends_the_work() -> None:
    was_cancelled = asyncio.Event()

    async def work(on_progress: OnProgress) -> None:
        on_progress(0, 1)
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    request: Any = None
    events = module._continued(await anext(made := module._events(request, work)), made)
    assert (await anext(events)).startswith(b"event: progress")
    await events.aclose()  # type: ignore[attr-defined]
    assert was_cancelled.is_set()
