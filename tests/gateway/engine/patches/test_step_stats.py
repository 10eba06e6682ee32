"""vLLM's statistics of each step."""

import asyncio
from pathlib import Path

import pytest

from gateway.engine import Engine
from tests.gateway.engines import (
    greedy,
    make_checkpoint,
)

pytestmark = pytest.mark.anyio


async def test_metrics_name_the_adapters_that_run_now_and_none_that_ever_ran(engine: Engine, tmp_path: Path) -> None:
    """vLLM's own keep a series for each set of adapters that ran together, for ever."""
    adapters = [make_checkpoint(tmp_path, step) for step in range(3)]
    for adapter in adapters:
        await greedy(engine, adapter)
    await asyncio.gather(*(greedy(engine, adapter) for adapter in adapters))
    series = [line for line in engine.metrics().splitlines() if line.startswith(b"vllm:lora_requests_info{")]
    assert len(series) == 1 and b'max_lora="' in series[0]
