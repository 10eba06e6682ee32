"""vLLM's metrics through our serving."""

import pytest

from gateway.engine import Engine
from tests.gateway.engines import (
    greedy,
)

pytestmark = pytest.mark.anyio


async def test_metrics_are_prometheus_text(engine: Engine) -> None:
    await greedy(engine)
    assert b"vllm:generation_tokens_total{" in engine.metrics()
