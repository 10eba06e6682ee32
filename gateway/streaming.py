"""The engine's replies as ASGI, and no work for clients that have left.

Litestar's own Stream neither closes its iterator when the client leaves nor watches while a whole answer is made; both
would keep the engine busy for nobody.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from typing import Protocol, TypeVar

from litestar.types import Receive, Scope, Send

Result = TypeVar("Result")

EVENT_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would collect the events
}


class ClientLeftError(Exception):
    """Nobody is there to answer."""


async def unless_client_leaves(receive: Receive, work: Awaitable[Result]) -> Result:
    """The result of `work`; it is cancelled, and ClientLeftError raised, when the client disconnects before.

    The request's body must have been read.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeftError
        return task.result()
    finally:
        watcher.cancel()
        task.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class WholeReply:
    """A JSON body that is ready."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = {"content-type": "application/json", "content-length": str(len(body)), **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": _encoded(self.headers)})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class Events(Protocol):
    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class EventStream:
    """Server-sent events as they come. `events` is closed when the last one is sent or the client leaves."""

    def __init__(self, events: Events) -> None:
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_client_leaves(receive, self._send(send))
        except ClientLeftError:
            return

    async def _send(self, send: Send) -> None:
        async with aclosing(self.events):
            await send({"type": "http.response.start", "status": 200, "headers": _encoded(EVENT_STREAM_HEADERS)})
            async for event in self.events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
