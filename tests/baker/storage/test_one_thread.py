import asyncio
import contextvars
import threading
import time

import pytest

from baker.storage.one_thread import OneThread

pytestmark = pytest.mark.anyio


class Log:
    """Records which thread calls it, and what it was given."""

    def __init__(self) -> None:
        self.threads = {threading.get_ident()}
        self.texts: list[str] = []

    def add(self, text: str, *, pause: float = 0.0) -> int:
        self.threads.add(threading.get_ident())
        if text == "bad":
            raise ValueError(text)
        time.sleep(pause)
        self.texts.append(text)
        return len(self.texts)

    def close(self) -> None:
        self.add("closed")


async def test_calls_run_in_order_on_one_thread_that_is_not_the_loop_s() -> None:
    log = OneThread(Log, "log")
    assert await asyncio.gather(*(log(Log.add, str(number), pause=0.001) for number in range(5))) == [1, 2, 3, 4, 5]
    inner = await log(lambda inner: inner)
    assert inner.texts == ["0", "1", "2", "3", "4"]
    assert len(inner.threads) == 1 and threading.get_ident() not in inner.threads
    log.close(Log.close)
    assert inner.texts[-1] == "closed"


async def test_an_error_reaches_the_caller_and_the_thread_continues() -> None:
    log = OneThread(Log, "log")
    with pytest.raises(ValueError, match="bad"):
        await log(Log.add, "bad")
    assert await log(Log.add, "good") == 1
    log.close(Log.close)


async def test_a_call_whose_caller_is_cancelled_is_completed() -> None:
    log = OneThread(Log, "log")
    call = asyncio.create_task(log(Log.add, "first", pause=0.05))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await log(Log.add, "second") == 2
    log.close(Log.close)


async def test_calls_see_the_caller_s_context_variables_and_change_none() -> None:
    asked_by = contextvars.ContextVar("asked_by", default="nobody")
    log = OneThread(Log, "log")

    async def ask(name: str) -> str:
        asked_by.set(name)
        seen = await log(lambda inner: asked_by.get())
        await log(lambda inner: asked_by.set("the thread"))
        return f"{seen}, {asked_by.get()}"

    assert await asyncio.gather(ask("alice"), ask("bob")) == ["alice, alice", "bob, bob"]
    assert await log(lambda inner: asked_by.get()) == "nobody"
    log.close(Log.close)
