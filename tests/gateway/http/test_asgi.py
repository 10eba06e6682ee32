"""Replies and event streams as ASGI messages."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gateway.errors import ClientLeftError
from gateway.http.asgi import disconnected, send_events, send_reply, unless_client_leaves
from gateway.protocol.replies import Reply

pytestmark = pytest.mark.anyio


async def never() -> Any:
    await asyncio.Event().wait()


async def gone() -> Any:
    return {"type": "http.disconnect"}


async def test_a_reply_has_its_length_and_all_headers() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_reply(Reply(503, "é".encode(), {"Retry-After": "5"}), {"x-ratelimit-limit-requests": "9"}, send)
    start, body = sent
    assert (start["status"], body) == (
        503,
        {"type": "http.response.body", "body": b"\xc3\xa9", "more_body": False},
    )
    assert dict(start["headers"]) == {
        b"content-type": b"application/json",
        b"content-length": b"2",
        b"x-ratelimit-limit-requests": b"9",
        b"Retry-After": b"5",
    }


@pytest.mark.parametrize("ending", ["end", "error", "cancellation"])
async def test_events_are_closed_however_sending_ends(ending: str) -> None:
    sent: list[bytes] = []
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.set()

    async def send(message: Any) -> None:
        sent.append(message["body"])
        if ending == "error":
            raise OSError("broken pipe")
        if ending == "cancellation":
            await never()

    task = asyncio.create_task(send_events(events(), send))
    while not sent:  # noqa: ASYNC110
        await asyncio.sleep(0)
    if ending == "cancellation":
        task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert closed.is_set()
    assert sent == ([b"one", b"two"] if ending == "end" else [b"one"])
    assert type(result) is {"end": type(None), "error": OSError, "cancellation": asyncio.CancelledError}[ending]


async def test_work_ends_with_its_client() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await never()
        finally:
            cancelled.set()

    with pytest.raises(ClientLeftError):
        await unless_client_leaves(gone, work())
    assert cancelled.is_set()


async def test_work_that_ends_first_gives_its_result_or_its_error() -> None:
    async def work(error: Exception | None = None) -> int:
        if error is not None:
            raise error
        return 7

    assert await unless_client_leaves(never, work()) == 7
    with pytest.raises(ValueError, match="why"):
        await unless_client_leaves(never, work(ValueError("why")))


async def test_other_messages_are_no_disconnect() -> None:
    messages = [{"type": "http.disconnect"}, {"type": "http.request"}]

    async def receive() -> Any:
        return messages.pop()

    await disconnected(receive)
    assert messages == []
