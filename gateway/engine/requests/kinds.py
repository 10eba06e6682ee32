"""The kinds of requests that vLLM can serve: for each its model of the body, its handler, and the format of its answer.

The only module that names vLLM's handlers; `handlers.py` is the same for all kinds.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from gateway.engine.core.usage import Usage
from gateway.errors import FieldRefusedError
from gateway.protocol.errors import Framing, Shape


class Kind(NamedTuple):
    name: str
    prompt: str
    """Name of the field that holds the model's input."""
    shape: Shape = "openai"
    framing: Framing = "openai"
    opens_with: tuple[str, ...] = ()
    """Texts that mark the events at the start of a stream, before the model's first text."""
    opens_early: bool = False
    """Whether these events come before the engine has checked the request, and may still refuse it."""
    needs_adapter: bool = True
    """False if every version of the model gives the same answer."""
    needs_name: bool = True
    """False if a request may leave out the model's name, and the base model answers it."""


CHAT = Kind("chat", "messages", opens_with=('"delta":{"role":"assistant","content":""',))
COMPLETION = Kind("completion", "prompt")
RESPONSES = Kind(
    "responses",
    "input",
    framing="responses",
    opens_with=("event: response.created\n", "event: response.in_progress\n"),
    opens_early=True,
)
MESSAGES = Kind("messages", "messages", shape="anthropic", framing="anthropic", opens_with=("event: message_start\n",))
COUNT_TOKENS = Kind("count_tokens", "messages", shape="anthropic", needs_adapter=False)
TOKENIZE = Kind("tokenize", "prompt", needs_adapter=False, needs_name=False)
DETOKENIZE = Kind("detokenize", "tokens", needs_adapter=False, needs_name=False)

PIECE = 64
"""Number of items of a response's input that are validated at once."""
ERROR_EVENTS = ('data: {"error":', "event: error\n")
"""Start of an error among the events of a stream. vLLM 0.32 yields events as text, errors included, so there is no type
to match: OpenAI's format (`create_streaming_error_response`), Anthropic's and the Responses API's."""


async def read(kind: Kind, fields: dict[str, Any]) -> Any:
    """vLLM's model of the request.

    Raises: pydantic.ValidationError; FieldRefusedError; the errors of vLLM's validators.
    """
    from pydantic import ValidationError

    from gateway.engine.core.mistakes import mistake

    model = form(kind, fields)
    items = fields.get("input")
    if kind is RESPONSES and isinstance(items, list):
        # A wrong item takes 3 ms, since it is compared with thirty types: stop at the first piece that has one.
        for start in range(0, len(items) - PIECE, PIECE):
            piece = {"input": items[start : start + PIECE]}
            try:
                model.model_validate(piece)
            except ValidationError as error:
                raise FieldRefusedError(*mistake(error, piece, first_item=start)) from error
            await asyncio.sleep(0)
    if kind is RESPONSES:  # null means the default, but vLLM's answers repeat the fields and can't hold null in all
        fields = {name: value for name, value in fields.items() if value is not None}
    return model.model_validate(fields)


def form(kind: Kind, fields: dict[str, Any]) -> Any:
    """The pydantic model of the request."""
    from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
    from vllm.entrypoints.serve.tokenize.protocol import (
        DetokenizeRequest,
        TokenizeChatRequest,
        TokenizeCompletionRequest,
    )

    forms = {
        CHAT: ChatCompletionRequest,
        COMPLETION: CompletionRequest,
        RESPONSES: ResponsesRequest,
        MESSAGES: AnthropicMessagesRequest,
        COUNT_TOKENS: AnthropicCountTokensRequest,
        TOKENIZE: TokenizeChatRequest if "messages" in fields else TokenizeCompletionRequest,
        DETOKENIZE: DetokenizeRequest,
    }
    return forms[kind]


async def answer(kind: Kind, serving: Any, request: Any, raw: Any) -> Any:
    """The result of vLLM's handler: an ErrorResponse, a whole answer, or an async generator of events.

    Args:
        serving: vLLM's state object.
        raw: the parts of the HTTP request that handlers use: `headers` and `state`.
    """
    handlers = {
        CHAT: ("openai_serving_chat", "create_chat_completion"),
        COMPLETION: ("openai_serving_completion", "create_completion"),
        RESPONSES: ("openai_serving_responses", "create_responses"),
        MESSAGES: ("anthropic_serving_messages", "create_messages"),
        COUNT_TOKENS: ("anthropic_serving_messages", "count_tokens"),
        TOKENIZE: ("serving_tokenization", "create_tokenize"),
        DETOKENIZE: ("serving_tokenization", "create_detokenize"),
    }
    owner, method = handlers[kind]
    return await getattr(getattr(serving, owner), method)(request, raw)


def whole(kind: Kind, result: Any, usage: Usage) -> bytes:
    """The JSON of a whole answer."""
    if kind is RESPONSES:
        _note(result, usage)
    if kind.shape == "anthropic":
        text: str = result.model_dump_json(exclude_none=True)
    else:
        text = result.model_dump_json(by_alias=kind is RESPONSES)
    return text.encode()


def events(kind: Kind, result: AsyncGenerator[Any, None], usage: Usage) -> AsyncGenerator[str, None]:
    """The server-sent events of a stream, as text."""
    return _framed(result, usage) if kind is RESPONSES else result


async def _framed(result: AsyncGenerator[Any, None], usage: Usage) -> AsyncGenerator[str, None]:
    async with aclosing(result):
        async for event in result:
            if event.type in ("response.completed", "response.incomplete"):
                _note(event.response, usage)
            yield f"event: {event.type}\ndata: {event.model_dump_json(by_alias=True)}\n\n"


def error_of(event: str) -> SimpleNamespace:
    """An error event of vLLM's as an object with the fields of its ErrorInfo."""
    error = msgspec.json.decode(event[event.index("data: ") + len("data: ") :])["error"]
    return SimpleNamespace(**{"code": 500, "param": None, **error})


def _note(response: Any, usage: Usage) -> None:
    """Keep the token count of a response. vLLM's other handlers leave it in the state of the HTTP request."""
    if response.usage is not None:
        usage.finish(response.usage.input_tokens, response.usage.output_tokens)
