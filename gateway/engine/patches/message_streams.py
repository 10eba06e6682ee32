"""An error in the middle of an Anthropic stream keeps its status and message.

vLLM 0.32 turns the chunks of a chat into Anthropic's events, and takes an error among them for a malformed chunk: the
client reads a validation error of vLLM's own model, as an internal error. Remove this when `message_stream_converter`
in `entrypoints/anthropic/serving.py` knows errors.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

ERROR = 'data: {"error":'
"""Start of an error among the chunks of a chat."""


def install(serving: Any) -> None:
    """Make vLLM's handler of messages yield such an error as it is; None if the model has none."""
    if serving is None:
        return
    theirs = serving.message_stream_converter

    async def convert(chunks: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        errors: list[str] = []

        async def until_error() -> AsyncGenerator[str, None]:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if chunk.startswith(ERROR):
                        errors.append(chunk)
                        return
                    yield chunk

        async with aclosing(theirs(until_error())) as events:
            async for event in events:
                yield event
        for error in errors:
            yield error

    serving.message_stream_converter = convert
