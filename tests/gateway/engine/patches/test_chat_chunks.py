"""Plain streamed answers, compared byte for byte with vLLM's own generator."""

from collections.abc import AsyncGenerator
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine import Engine
from gateway.engine.patches import chat_chunks
from tests.gateway.engines import MODEL_NAME

pytestmark = pytest.mark.anyio

TEXTS = [
    "",
    "Hello",
    ' "quoted" \\ / ',
    "\n\t\r\b\f\x00\x1b\x7f",
    "é…漢字🥖\u2028\u2029",
    "<tool_call>{}",
    "</tool_call>",
]


class Results:
    """Takes the place of the engine's answer to one request: one result for each text, only the last finished."""

    def __init__(self, texts: list[str], finish_reason: str | None = "stop", error: Exception | None = None) -> None:
        self.texts = texts
        self.finish_reason = finish_reason
        self.error = error
        self.was_exhausted = False

    async def __call__(self) -> AsyncGenerator[Any, None]:
        from vllm.outputs import CompletionOutput, RequestOutput

        for number, text in enumerate(self.texts):
            is_last = number == len(self.texts) - 1 and self.error is None
            output = CompletionOutput(0, text, [number, number], None, None)
            output.finish_reason = self.finish_reason if is_last else None
            output.stop_reason = 7 if is_last else None
            yield RequestOutput("x", "prompt", [1, 2, 3], None, [output], is_last, num_cached_tokens=2)
        if self.error is not None:
            raise self.error
        self.was_exhausted = True


@pytest.fixture
def serving(engine: Engine) -> Any:
    return engine.serving.openai_serving_chat


def events(serving: Any, results: Results, **fields: Any) -> AsyncGenerator[str, None]:
    from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    body = {"model": MODEL_NAME, "messages": [{"role": "user", "content": "Hi"}], "stream": True} | fields
    stream: AsyncGenerator[str, None] = serving.chat_completion_stream_generator(
        ChatCompletionRequest.model_validate(body),
        results(),
        "chatcmpl-1",
        'a "model"',
        [],
        serving.renderer.tokenizer,
        RequestResponseMetadata(request_id="chatcmpl-1"),
    )
    return stream


async def both(serving: Any, results: Results, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[list[str]]:
    """The events that our generator and vLLM's write for the same results."""
    from vllm.entrypoints.openai.chat_completion import serving as module

    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: 1_700_000_000.0))
    theirs = type(serving).chat_completion_stream_generator.__get__(serving)
    streams = []
    for generator in (serving.chat_completion_stream_generator, theirs):
        handler = SimpleNamespace(chat_completion_stream_generator=generator, renderer=serving.renderer)
        streams.append([event async for event in events(handler, deepcopy(results), **fields)])
    return streams


@pytest.mark.parametrize("has_parser", [True, False])
@pytest.mark.parametrize("finish_reason", ["stop", "length", "abort", "error"])
@pytest.mark.parametrize(
    "fields",
    [{}, {"stream_options": {"include_usage": True}}, {"add_generation_prompt": False}],
    ids=["plain", "usage", "continued"],
)
async def test_the_same_bytes_as_vllm(
    serving: Any, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], finish_reason: str, has_parser: bool
) -> None:
    if not has_parser:
        monkeypatch.setattr(serving, "parser_cls", None)
    for texts in (TEXTS, TEXTS[1:], [""], ["", ""], ["Hello"]):
        ours, theirs = await both(serving, Results(texts, finish_reason), monkeypatch, **fields)
        assert ours == theirs


@pytest.mark.parametrize("texts", [[], ["Hello", " world"]], ids=["before the first token", "in the middle"])
async def test_an_error_becomes_the_same_event_as_in_vllm(
    serving: Any, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    ours, theirs = await both(serving, Results(texts, error=EngineDeadError()), monkeypatch)
    assert ours == theirs
    assert ours[-2].startswith('data: {"error":')


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"return_token_ids": True},
        {"echo": True},
        {"include_reasoning": False},
    ],
    ids=["tools", "usage in every chunk", "token ids", "echo", "no reasoning"],
)
async def test_other_requests_go_through_vllm(
    serving: Any, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("not plain")

    monkeypatch.setattr(chat_chunks, "_stream", refuse)
    ours, theirs = await both(serving, Results(TEXTS), monkeypatch, **fields)
    assert ours == theirs and len(ours) > 2


async def test_the_engines_answer_is_read_to_its_end(serving: Any) -> None:
    """Otherwise vLLM treats the request as abandoned, and aborts it in its engine."""
    results = Results(["a", "b"])
    assert [event async for event in events(serving, results)][-1] == "data: [DONE]\n\n"
    assert results.was_exhausted


async def test_a_stream_that_is_closed_closes_the_engines_answer(serving: Any) -> None:
    was_closed = False

    class Endless(Results):
        async def __call__(self) -> AsyncGenerator[Any, None]:
            nonlocal was_closed
            try:
                async for result in super().__call__():
                    yield result
            finally:
                was_closed = True

    stream = events(serving, Endless(["a"] * 100))
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert was_closed
