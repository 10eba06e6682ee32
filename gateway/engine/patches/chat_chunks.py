"""The chunks of a plain streamed chat completion, written without vLLM's objects; byte for byte what vLLM sends.

vLLM 0.32 builds and serialises three pydantic models for each chunk. For a plain request (one answer, only text) the
chunks differ only in their text. So vLLM's own generator still writes the first chunk and the last ones (role, finish
reason, usage, errors), and a template writes those between. Other requests go through vLLM unchanged.

Remove this when vLLM's own generator is as fast: `chat_completion_stream_generator` in
`entrypoints/openai/chat_completion/serving.py`.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from copy import copy
from typing import Any
from uuid import uuid4

import msgspec

START = "data: "


def install(serving: Any) -> None:
    """Make vLLM's chat handler (OpenAIServingChat; None if the model has none) stream plain answers this way."""
    if serving is None:
        return
    theirs = serving.chat_completion_stream_generator

    def stream(request: Any, results: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[str, None]:
        if not _is_plain(serving, request):
            return theirs(request, results, *args, **kwargs)  # type: ignore[no-any-return]
        feed = _Feed()
        return _stream(results, feed, theirs(request, feed, *args, **kwargs), sends_empty=serving.parser_cls is None)

    serving.chat_completion_stream_generator = stream


def _is_plain(serving: Any, request: Any) -> bool:
    """Whether all chunks between the first and the last ones differ only in their text."""
    options, parser = request.stream_options, serving.parser_cls
    return (
        request.n in (None, 1)
        and not (request.logprobs or request.return_token_ids or request.echo or request.use_beam_search)
        and not (options is not None and options.continuous_usage_stats)
        and not (serving.enable_force_include_usage or serving.enable_log_outputs)
        and (parser is None or (_passes_text_through(parser) and request.tool_choice == "none"))
        and request.include_reasoning
    )


def _passes_text_through(parser: Any) -> bool:
    """Whether the parser leaves an answer unchanged when the request allows no tool calls.

    Tool parsers built on vLLM's parser engine change it, and a reasoning parser always does.
    """
    tools = parser.tool_parser_cls
    return parser.reasoning_parser_cls is None and tools is not None and not tools.engine_based_streaming


class _Feed:
    """The results that vLLM's generator reads: those put into `results`, or an error among them, which it raises."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self.results:
            raise StopAsyncIteration
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


async def _stream(
    results: AsyncGenerator[Any, None], feed: _Feed, theirs: AsyncGenerator[str, None], *, sends_empty: bool
) -> AsyncGenerator[str, None]:
    """The events, one at a time.

    Args:
        sends_empty: whether a result without text becomes a chunk; it does where no parser reads the answer.
    """
    token_ids: list[int] = []
    before = after = ""
    try:
        try:
            async for result in results:  # to its end: closing it earlier would abort the request
                output = result.outputs[0]
                token_ids += output.token_ids
                if output.finish_reason is not None:
                    output.token_ids = token_ids  # vLLM counts them
                    feed.results.append(result)
                    continue
                if not before:
                    feed.results.append(_without_text(result))
                    first = await anext(theirs)
                    before, after = _template(first)
                    yield first
                if output.text or (sends_empty and token_ids):
                    yield before + msgspec.json.encode(output.text).decode() + after
        except Exception as error:
            feed.results.append(error)  # vLLM writes an event for it
        async for event in theirs:
            yield event
    finally:
        await theirs.aclose()
        await results.aclose()


def _without_text(result: Any) -> Any:
    """A copy of the result without tokens, for which vLLM sends only the role."""
    result, output = copy(result), copy(result.outputs[0])
    output.text, output.token_ids = "", []
    result.outputs = [output]
    return result


def _template(first: str) -> tuple[str, str]:
    """The JSON before and after the text in the chunks that follow the first event."""
    from vllm.entrypoints.generate.base.protocol import DeltaMessage
    from vllm.entrypoints.openai.chat_completion import protocol

    head = msgspec.json.decode(first.removeprefix(START))
    mark = uuid4().hex
    choice = protocol.ChatCompletionResponseStreamChoice(
        index=0, delta=DeltaMessage(content=mark), logprobs=None, finish_reason=None, token_ids=None
    )
    chunk = protocol.ChatCompletionStreamResponse(
        id=head["id"], object=head["object"], created=head["created"], choices=[choice], model=head["model"]
    )
    before, after = chunk.model_dump_json(exclude_unset=True).split(f'"{mark}"')
    return START + before, after + "\n\n"
