"""Lets other tasks run between two results of engine steps.

In vLLM 0.32 the task that handles results does not suspend while there is a next one. One request that produces more
than it can handle (16 answers with 20 log-probabilities a token) kept every other client waiting for 11 seconds. Remove
this when the output handler of `v1/engine/async_llm.py` yields between two results.
"""

import asyncio
import time
from typing import Any

TURN_SECONDS = 0.02
"""Longest time for which results are handled without a pause; streams would visibly stutter with a longer one."""


def take_turns(engine_core: Any) -> None:
    """Make vLLM's client of the engine core pause every TURN_SECONDS.

    Not after each result: results that arrive during a pause are sent as one chunk, which makes up for the time.
    """
    theirs = engine_core.get_output_async
    since = time.monotonic()

    async def get_output_async() -> Any:
        nonlocal since
        if time.monotonic() - since > TURN_SECONDS:
            await asyncio.sleep(0)
            since = time.monotonic()
        return await theirs()

    engine_core.get_output_async = get_output_async
