"""vLLM's statistics of each step."""

import asyncio
from pathlib import Path

import pytest

from gateway.engine import Engine
from gateway.engine.patches.step_stats import Pulse
from tests.gateway.engines import (
    greedy,
    make_checkpoint,
)

pytestmark = pytest.mark.anyio


async def test_metrics_name_only_the_adapters_that_run_now(engine: Engine, tmp_path: Path) -> None:
    """vLLM keeps a series for each set of adapters that ever ran together."""
    adapters = [make_checkpoint(tmp_path, step) for step in range(3)]
    for adapter in adapters:
        await greedy(engine, adapter)
    await asyncio.gather(*(greedy(engine, adapter) for adapter in adapters))
    series = [line for line in engine.metrics().splitlines() if line.startswith(b"vllm:lora_requests_info{")]
    assert len(series) == 1 and b'max_lora="' in series[0]


async def test_steps_are_counted_while_the_engine_works(engine: Engine) -> None:
    before = engine.steps
    await greedy(engine, max_tokens=5)
    assert engine.steps >= before + 5


def test_all_loggers_of_one_pulse_count_together(engine: Engine) -> None:
    pulse = Pulse()
    loggers = [pulse.logger(None, index) for index in range(2)]
    for logger in loggers:
        logger.record(scheduler_stats=None, iteration_stats=None)
    assert pulse.steps == 2
