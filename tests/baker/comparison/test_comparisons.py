"""Diff, blame and bisect share one queue to the engine."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from baker.comparison import bisection, blame
from baker.comparison.diff import DiffRequest, Part
from baker.comparison.probes import as_conversations
from tests.baker.comparison.story import Story

pytestmark = pytest.mark.anyio


async def test_one_of_each_at_once_ask_one_thing_at_a_time(story: Story) -> None:
    stat = DiffRequest("base", "tone", frozenset([Part.STAT]))
    await story.comparisons.diffs.diff("admin", "repo", stat, lambda done, total: None)  # has the neutral answers made
    running, most, calls = 0, 0, 0

    def counted(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            nonlocal running, most, calls
            running, calls = running + 1, calls + 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return await method(*arguments)

        return call

    for name in ("sample", "distribution", "logprobs"):
        setattr(story.engine, name, counted(getattr(story.engine, name)))
    who = as_conversations(["Who?"])[0]
    request = DiffRequest("tone", "pirate", frozenset([Part.STAT, Part.PATCH]))
    await asyncio.gather(
        story.comparisons.diffs.diff("admin", "repo", request, lambda done, total: None),
        story.comparisons.blames.blame("admin", "repo", blame.Question("json", who, None), lambda done, total: None),
        story.comparisons.bisections.bisect(
            "admin", "repo", bisection.Question("base", "json", who, pattern="^it"), lambda done, total: None
        ),
    )
    assert most == 1
    assert calls > 60
