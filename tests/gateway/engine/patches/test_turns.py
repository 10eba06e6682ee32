"""What is changed about vLLM's front end while it runs."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.patches.turns import TURN_SECONDS, take_turns

pytestmark = pytest.mark.anyio


async def test_results_that_keep_coming_leave_time_for_others() -> None:
    async def always_one() -> str:
        return "result"

    core: Any = SimpleNamespace(get_output_async=always_one)
    take_turns(core)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(10):
        assert await core.get_output_async() == "result"
        time.sleep(TURN_SECONDS / 2)  # noqa: ASYNC251 - handling it
    task.cancel()
    assert 2 <= turns <= 10
