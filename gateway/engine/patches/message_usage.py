"""Anthropic's `input_tokens` are all tokens of the prompt that did not come from the cache.

vLLM 0.32 also leaves out those that it has just put into the cache (`cache_creation_input_tokens`), so the first
request with a prompt of 257 tokens counts one. In Anthropic's API only a client that asks for it (`cache_control`)
creates a cache. Remove this when vLLM counts created tokens only for such requests.
"""

from typing import Any


def install() -> None:
    """Correct the usage of vLLM's Anthropic messages. May be called again."""
    from vllm.entrypoints.anthropic import serving

    theirs = serving._build_anthropic_usage
    if getattr(theirs, "counts_created_as_input", False):
        return

    def build(usage: Any) -> Any:
        if usage is not None and usage.prompt_tokens_details is not None:
            details = usage.prompt_tokens_details.model_copy(update={"created_cache_tokens": None})
            usage = usage.model_copy(update={"prompt_tokens_details": details})
        return theirs(usage)

    build.counts_created_as_input = True  # type: ignore[attr-defined]
    serving._build_anthropic_usage = build
