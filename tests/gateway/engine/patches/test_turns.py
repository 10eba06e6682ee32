"""Other tasks run between two results of engine steps."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.patches.turns import TURN_SECONDS, take_turns

pytestmark = pytest.mark.anyio


async def test_other_tasks_run_while_results_keep_coming() -> None:
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
        time.sleep(TURN_SECONDS / 2)  # noqa: ASYNC251 - the time to handle a result
    task.cancel()
    assert 2 <= turns <= 10
