"""The engine's sleep: its device's memory is a training's, and requests wait for it, though not for long.

vLLM's level 1: weights go to main memory, the key-value cache is dropped. An engine can do so if it was started with
vLLM's `--enable-sleep-mode`, which GPUs know. Tried on a CPU, where nothing comes free; not on a GPU.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from baker.errors import EngineError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

WAIT_SECONDS = 10.0
"""A request's patience. Below the silence after which a stream gets a sign of life, and with it the status 200."""
DRAIN_SECONDS = 60.0
"""What runs when the engine is to sleep may go on so long; then it ends with what it has."""
POLL_SECONDS = 0.05
ASLEEP = "the engine sleeps while a bake trains, which needs its memory: try again later"


class Sleep:
    """Whether it sleeps, or is about to or just waking: no new request may reach it then."""

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
        """Until it is awake. Raises: EngineError after WAIT_SECONDS."""
        try:
            await asyncio.wait_for(self._awake.wait(), WAIT_SECONDS)
        except TimeoutError:
            raise EngineError(ASLEEP) from None


def share_of(llm: "AsyncLLM") -> float:
    """Of its device's memory, what comes free while it sleeps."""
    config = llm.vllm_config
    return float(config.cache_config.gpu_memory_utilization) if config.model_config.enable_sleep_mode else 0.0


async def fall_asleep(llm: "AsyncLLM", busy: Callable[[], int]) -> None:
    """Args: busy: how many requests it works on, those that wait for an adapter included."""
    with contextlib.suppress(TimeoutError):  # what still runs is aborted: its answers end here
        async with asyncio.timeout(DRAIN_SECONDS):
            while busy():  # noqa: ASYNC110 - vLLM's count
                await asyncio.sleep(POLL_SECONDS)
    await llm.sleep(level=1, mode="abort")
