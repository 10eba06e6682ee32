"""Lets other tasks run between two results of engine steps."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


TURN_SECONDS = 0.02
"""How long results are handled in a row; beyond it, streams would be seen to stutter."""


def take_turns(engine_core: Any) -> None:
    """Let others run between two results of steps.

    vLLM's task that handles them does not suspend while there is a next one, so that one request for more than it can
    handle (16 answers with 20 log-probabilities a token) kept every other client waiting for 11 seconds. Not after each
    result: what comes meanwhile is sent as one chunk, which makes up for the time.
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
