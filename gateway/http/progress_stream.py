"""Long work as server-sent events: `progress` while it runs, then `result`, or `error` with the body of the error."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.response import Stream

from gateway.http.asgi import EVENT_STREAM_HEADERS
from gateway.http.errors import bread_error

KEEP_ALIVE_SECONDS = 15.0
"""Silence before a comment is sent, so that no proxy closes the connection."""
COMMENT = b": keep-alive\n\n"

OnProgress = Callable[[int, int], None]
"""Hears how much is done, and of how much."""


async def progress_stream(
    request: Request[Any, Any, Any], work: Callable[[OnProgress], Awaitable[Any]]
) -> Response[Any]:
    """The answer that streams the progress of `work`, which is cancelled when the client leaves.

    Raises: what `work` raises before its first progress, so that such an error has a status of its own.
    """
    events = _events(request, work)
    first = await anext(events)
    headers = {name: value for name, value in EVENT_STREAM_HEADERS.items() if name != "content-type"}
    return Stream(_continued(first, events), media_type="text/event-stream", headers=headers)


async def _continued(first: bytes, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for event in events:
            yield event
    finally:
        await events.aclose()


async def _events(
    request: Request[Any, Any, Any], work: Callable[[OnProgress], Awaitable[Any]]
) -> AsyncGenerator[bytes, None]:
    reports: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    task = asyncio.ensure_future(work(lambda done, total: reports.put_nowait((done, total))))
    has_begun = False
    try:
        while not task.done() or not reports.empty():
            report = asyncio.ensure_future(reports.get())
            try:
                await asyncio.wait({task, report}, timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if report.done():
                    has_begun = True
                    done, total = report.result()
                    yield _event("progress", {"done": done, "total": total})
                elif not task.done() and has_begun:
                    yield COMMENT
            finally:
                report.cancel()
        try:
            result = task.result()
        except Exception as error:
            if not has_begun:
                raise
            yield b"event: error\ndata: " + bread_error(request, error).content + b"\n\n"
        else:
            yield _event("result", result)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _event(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
