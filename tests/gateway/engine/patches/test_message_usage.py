"""The token counts of Anthropic's messages. Through the real handler: test_handlers.py."""

import pytest

from gateway.engine import Engine
from gateway.engine.patches import message_usage


@pytest.mark.parametrize(
    ("prompt", "cached", "created", "counted"),
    [(257, 0, 256, (257, 0)), (257, 256, None, (1, 256)), (20, None, None, (20, None)), (300, 128, 128, (172, 128))],
)
def test_input_tokens_are_those_that_were_not_cached(
    engine: Engine, prompt: int, cached: int | None, created: int | None, counted: tuple[int, int | None]
) -> None:
    from vllm.entrypoints.anthropic import serving
    from vllm.entrypoints.serve.engine.protocol import PromptTokenUsageInfo, UsageInfo

    message_usage.install()
    details = PromptTokenUsageInfo(cached_tokens=cached, created_cache_tokens=created)
    usage = UsageInfo(prompt_tokens=prompt, completion_tokens=3, total_tokens=prompt + 3, prompt_tokens_details=details)
    built = serving._build_anthropic_usage(usage)
    assert (built.input_tokens, built.cache_read_input_tokens, built.output_tokens) == (*counted, 3)
    assert built.cache_creation_input_tokens is None
    assert details.created_cache_tokens == created, "the chat's own count stays"
