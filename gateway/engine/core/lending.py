"""Asks the engine's worker for its weights (`worker/lending.py`), for a training on the same device."""

import asyncio
from collections.abc import Callable

from baker.errors import EngineError, NotLentError
from baker.ports import LentWeights
from gateway.engine.core.process import EngineProcess
from gateway.engine.patches.death import GONE

POLL_SECONDS = 0.1


async def lend_weights(process: EngineProcess, is_current: Callable[[], bool]) -> LentWeights:
    """Handles of the base model's weights.

    Args:
        is_current: whether the engine still runs in this process; false once it was stopped.
    Raises: NotLentError with the reason if there is nothing to lend; EngineError.
    """
    try:
        handles, *_ = await process.unless_dead(process.llm.collective_rpc("lend_weights"))
    except Exception as error:  # vLLM passes on whatever its worker raises
        if process.is_dead:
            raise EngineError(GONE) from error
        raise NotLentError(f"the worker can't give handles of them: {error}") from error
    if isinstance(handles, str):
        raise NotLentError(handles)

    async def gone() -> None:
        while is_current() and not process.is_dead:  # noqa: ASYNC110 - vLLM reports a death by a flag
            await asyncio.sleep(POLL_SECONDS)

    return LentWeights(bytes(handles), gone)
