"""The engine's sleep: a training gets its device's memory, and requests wait for the engine, though not for long.

vLLM's level 1: weights move to main memory, the key-value cache is dropped. The engine can do so if it was started with
vLLM's `--enable-sleep-mode`, which only GPUs support. Tested on a CPU, where no memory becomes free; not on a GPU.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from baker.errors import EngineError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

WAIT_SECONDS = 10.0
"""Longest time that a request waits. Below the silence after which a stream gets a keep-alive comment, and with it the
status 200."""
DRAIN_SECONDS = 60.0
"""Longest time that running requests may continue; then they end with the text that they have."""
POLL_SECONDS = 0.05
ASLEEP = "the engine sleeps while a bake trains, which needs its memory: try again later"


class Sleep:
    """Whether the engine is asleep, falls asleep or wakes up: no new request may reach it then."""

    def __init__(self) -> None:
        self._awake = asyncio.Event()
        self._awake.set()

    @property
    def is_asleep(self) -> bool:
        return not self._awake.is_set()

    def begin(self) -> None:
        self._awake.clear()

    def end(self) -> None:
        self._awake.set()

    async def over(self) -> None:
        """Wait until the engine is awake. Raises: EngineError after WAIT_SECONDS."""
        try:
            await asyncio.wait_for(self._awake.wait(), WAIT_SECONDS)
        except TimeoutError:
            raise EngineError(ASLEEP) from None


def share_of(llm: "AsyncLLM") -> float:
    """Share of the device's memory that becomes free while the engine sleeps; 0 if it can't sleep."""
    config = llm.vllm_config
    return float(config.cache_config.gpu_memory_utilization) if config.model_config.enable_sleep_mode else 0.0


async def fall_asleep(llm: "AsyncLLM", unfinished: Callable[[], int]) -> None:
    """Wait for running requests, at most DRAIN_SECONDS, abort the others, and put the engine to sleep.

    Args:
        unfinished: counts the requests in the engine and those that wait for an adapter.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while unfinished():  # noqa: ASYNC110 - vLLM's count
                await asyncio.sleep(POLL_SECONDS)
    await llm.sleep(level=1, mode="abort")
