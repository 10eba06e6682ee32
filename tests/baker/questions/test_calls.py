"""Lists of questions that are read while a model writes them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from baker.errors import StimError
from baker.ports import OnText
from baker.questions.calls import Call, in_order, run_calls
from baker.questions.writers import Answer

pytestmark = pytest.mark.anyio


class Scripted:
    """A call that writes its text in pieces, one for each `release` of its semaphore, and ends at one more."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.may_write = asyncio.Semaphore(0)
        self.was_cancelled = False

    async def __call__(self, on_text: OnText) -> Answer:
        text = ""
        try:
            for piece in self.pieces:
                await self.may_write.acquire()
                text += piece
                on_text(text)
            await self.may_write.acquire()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return Answer(text, is_cut=False)


async def next_state(states: AsyncGenerator[list[Call], None]) -> tuple[list[str], int]:
    """The questions in order, and the number of all complete ones."""
    calls = await anext(states)
    return in_order(calls), sum(len(call.questions) for call in calls)


async def test_only_complete_questions_count_and_they_keep_the_order_of_the_calls() -> None:
    first = Scripted("1. Is it one?\n2. Is it", " item two?\n")
    second = Scripted("1. Is it three?\n2. Is it four?")
    seen = []
    async with asyncio.timeout(10), aclosing(run_calls([first, second])) as states:
        for call in (second, first, second, first, first):
            call.may_write.release()
            seen.append(await next_state(states))
    assert seen == [
        ([], 1),
        (["Is it one?"], 2),
        (["Is it one?"], 3),
        (["Is it one?", "Is it item two?"], 4),
        (["Is it one?", "Is it item two?", "Is it three?", "Is it four?"], 4),
    ]


async def test_questions_that_arrive_while_the_caller_is_busy_are_not_lost() -> None:
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def second(on_text: OnText) -> Answer:
        await may_end.wait()
        ended.set()
        return Answer("1. Is it one?", is_cut=False)

    first = Scripted()
    first.may_write.release()
    async with asyncio.timeout(10), aclosing(run_calls([first, second])) as states:
        assert await next_state(states) == ([], 0)
        may_end.set()
        await ended.wait()
        seen = [in_order(calls) async for calls in states]
    assert seen == [["Is it one?"]]


async def test_a_call_that_fails_ends_the_others() -> None:
    async def failing(on_text: OnText) -> Answer:
        raise StimError("refused")

    other = Scripted("1. Is it one?\n")
    with pytest.raises(StimError, match="refused"):
        async with asyncio.timeout(10), aclosing(run_calls([other, failing])) as states:
            async for _ in states:
                pass
    assert other.was_cancelled


async def test_closing_ends_the_calls_that_still_run() -> None:
    done, other = Scripted(), Scripted("1. Is it one?\n")
    done.may_write.release()
    async with asyncio.timeout(10), aclosing(run_calls([done, other])) as states:
        await anext(states)
    assert other.was_cancelled
