"""Concurrent calls that ask a model for lists of questions, read while they are written."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from baker.ports import OnText
from baker.questions.parsing import parse_questions
from baker.questions.writers import Answer

Ask = Callable[[OnText], Awaitable[Answer]]
"""One call. It reports its text so far whenever that grows, if the model's server streams."""


class Call:
    def __init__(self, changed: asyncio.Event) -> None:
        """Args: changed: set whenever the call has a new question, and at its end."""
        self.questions: list[str] = []
        """The complete questions so far."""
        self.is_done = False
        self._changed = changed
        self._length = 0

    async def run(self, ask: Ask) -> None:
        try:
            self.questions = parse_questions(await ask(self._read))
            self.is_done = True
        finally:
            self._changed.set()

    def _read(self, text: str) -> None:
        """Args: text: the answer so far. Its last line may be incomplete."""
        length = text.rfind("\n") + 1
        if length > self._length:
            self._length = length
            self.questions = parse_questions(Answer(text[:length], is_cut=False))
            self._changed.set()


async def run_calls(asks: Sequence[Ask]) -> AsyncGenerator[list[Call], None]:
    """Run the calls together. Yields them whenever one has a new question or ends, last when all are done.

    Close it to end calls that still run. Raises: the error of the first call that fails; the others are cancelled.
    """
    changed = asyncio.Event()
    calls = [Call(changed) for _ in asks]
    tasks = [asyncio.create_task(call.run(ask)) for call, ask in zip(calls, asks, strict=True)]
    are_done = not calls
    try:
        while not are_done:
            await changed.wait()
            changed.clear()
            for task in tasks:
                if task.done():
                    task.result()
            # Before the yield: a call that ends while the caller works on these questions brings more of them.
            are_done = all(call.is_done for call in calls)
            yield calls
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def in_order(calls: Sequence[Call]) -> list[str]:
    """The questions that have their final place: those of the first calls that are done, and of the next one."""
    questions = []
    for call in calls:
        questions += call.questions
        if not call.is_done:
            break
    return questions
