"""Replies and event streams as ASGI messages. `inference/delivery.py` decides when to send them and when to stop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from typing import Protocol, TypeVar

from litestar.types import Receive, Scope, Send

from gateway.errors import ClientLeftError
from gateway.protocol.replies import Reply

Result = TypeVar("Result")

EVENT_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would collect the events
}


async def unless_client_leaves(receive: Receive, work: Awaitable[Result]) -> Result:
    """The result of `work`. If the client disconnects first, `work` is cancelled and ClientLeftError raised.

    The request's body must have been read.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeftError
        return task.result()
    finally:
        watcher.cancel()
        task.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def disconnected(receive: Receive) -> None:
    """Return when the client disconnects. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_reply(reply: Reply, headers: Mapping[str, str], send: Send) -> None:
    """Send a whole JSON answer. Args: headers: to be added to the reply's own."""
    length = {"content-type": "application/json", "content-length": str(len(reply.body))}
    complete = encoded({**length, **headers, **reply.headers})
    await send({"type": "http.response.start", "status": reply.status, "headers": complete})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})


class EmptyReply:
    """An answer without a body."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": encoded(self._headers)})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Events(Protocol):
    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


async def send_events(events: Events, send: Send) -> None:
    """Send server-sent events as they come. Closes `events` at the end, on an error and on cancellation."""
    async with aclosing(events):
        async for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers in ASGI's form."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
