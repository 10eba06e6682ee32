"""Errors within Anthropic streams. Through the real handler: test_aborts.py."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest

from gateway.engine.patches.message_streams import install

pytestmark = pytest.mark.anyio

BROKEN = 'data: {"error": {"message": "why", "code": 503}}\n\n'


async def converted(chunks: list[str]) -> tuple[list[str], bool]:
    """The events of a converter that marks each chunk, and whether the chunks were closed."""
    is_closed = False

    async def source() -> AsyncGenerator[str, None]:
        nonlocal is_closed
        try:
            for chunk in chunks:
                yield chunk
        finally:
            is_closed = True

    async def theirs(generator: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        async for chunk in generator:
            yield f"converted {chunk}"

    serving = SimpleNamespace(message_stream_converter=theirs)
    install(serving)
    return [event async for event in serving.message_stream_converter(source())], is_closed


@pytest.mark.parametrize(
    ("chunks", "events"),
    [
        (["a", "b"], ["converted a", "converted b"]),
        (["a", BROKEN, "data: [DONE]"], ["converted a", BROKEN]),
        ([BROKEN], [BROKEN]),
        ([], []),
    ],
)
async def test_an_error_ends_the_stream_as_it_is(chunks: list[str], events: list[str]) -> None:
    assert await converted(chunks) == (events, True)


def test_a_model_without_messages_needs_nothing() -> None:
    install(None)
