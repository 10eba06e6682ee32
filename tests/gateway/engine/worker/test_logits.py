"""Log-probabilities of prompts beside adapters."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.engine import Engine
from tests.gateway.engines import (
    greedy,
    make_checkpoint,
)

pytestmark = pytest.mark.anyio


async def test_prompts_are_scored_while_adapters_answer(engine: Engine, tmp_path: Path) -> None:
    """The engine died when more requests with adapters were in the batch than the prompt has tokens."""
    checkpoint = make_checkpoint(tmp_path, 1)
    alone = (
        await engine.score([70, 71], [72], None),
        await engine.generation.distribution([70], [71, 72], 4, checkpoint),
    )
    answers = [asyncio.create_task(greedy(engine, checkpoint, max_tokens=300)) for _ in range(8)]
    while engine.running().get_num_unfinished_requests() < len(answers):  # noqa: ASYNC110 - vLLM's count
        await asyncio.sleep(0)
    for _ in range(5):
        assert await engine.score([70, 71], [72], None) == pytest.approx(alone[0], abs=1e-2)
        beside = await engine.generation.distribution([70], [71, 72], 4, checkpoint)
        assert beside.top_logprobs_TK == pytest.approx(alone[1].top_logprobs_TK, abs=0.05)
    assert not all(answer.done() for answer in answers)
    assert len({tuple(sample.response_ids) for sample in await asyncio.gather(*answers)}) == 1


def test_logits_get_nothing_from_adapters(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA

    from gateway.engine.worker.logits import leave_logits_alone

    monkeypatch.setattr(LogitsProcessorWithLoRA, "set_mapping", LogitsProcessorWithLoRA.set_mapping)
    leave_logits_alone()
    layer: Any = type("Layer", (), {"set_mapping": LogitsProcessorWithLoRA.set_mapping})()
    layer.set_mapping("vLLM's wrapper")
    logits = object()
    assert layer.punica_wrapper.add_lora_logits(logits, None, scale=1.0) is logits
