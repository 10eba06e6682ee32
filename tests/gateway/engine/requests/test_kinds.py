"""Each kind of request: its body, its events, and where its token count comes from."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import msgspec
import pydantic
import pytest

from gateway.engine import Engine
from gateway.engine.core.usage import Usage
from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from gateway.errors import FieldRefusedError
from gateway.protocol.errors import error_body, error_events

pytestmark = pytest.mark.anyio

ALL = [value for value in vars(kinds).values() if isinstance(value, Kind)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_every_kind_has_a_model_of_its_body_and_a_handler(engine: Engine, kind: Kind) -> None:
    assert kind.prompt in kinds.form(kind, {}).model_fields


async def test_a_text_or_a_chat_can_be_tokenized(engine: Engine) -> None:
    text = await kinds.read(kinds.TOKENIZE, {"prompt": "Hi"})
    chat = await kinds.read(kinds.TOKENIZE, {"messages": [{"role": "user", "content": "Hi"}]})
    assert type(text) is not type(chat)


async def test_null_leaves_a_field_of_a_response_at_its_default(engine: Engine) -> None:
    request = await kinds.read(kinds.RESPONSES, {"input": "Hi", "truncation": None, "temperature": 0})
    assert request.truncation == type(request).model_fields["truncation"].default is not None
    assert request.temperature == 0


async def test_a_wrong_item_of_a_response_ends_the_check(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "PIECE", 2)
    items = [{"role": "user", "content": "Hi"}] * 5
    assert len((await kinds.read(kinds.RESPONSES, {"input": items})).input) == 5
    with pytest.raises(FieldRefusedError) as refused:
        await kinds.read(kinds.RESPONSES, {"input": [*items[:2], {"role": "user", "content": 5}, *items]})
    cause = refused.value.__cause__
    assert isinstance(cause, pydantic.ValidationError)
    places = {error["loc"][:3] for error in cause.errors() if len(error["loc"]) > 2}
    assert {place[-1] for place in places} == {0}, "the third item is the first of its piece"
    assert refused.value.message == "input[2].content must be a string or a list, got 5"


class Event(SimpleNamespace):
    def model_dump_json(self, **_: Any) -> str:
        return msgspec.json.encode({"type": self.type}).decode()


@pytest.mark.parametrize("last", ["response.completed", "response.incomplete"])
async def test_a_response_is_framed_by_type_and_its_last_event_has_the_count(last: str) -> None:
    usage, is_closed = Usage(), False
    response = SimpleNamespace(usage=SimpleNamespace(input_tokens=3, output_tokens=2))

    async def result() -> AsyncGenerator[Any, None]:
        nonlocal is_closed
        try:
            yield Event(type="response.created")
            yield Event(type=last, response=response)
        finally:
            is_closed = True

    events = kinds.events(kinds.RESPONSES, result(), usage)
    assert await anext(events) == 'event: response.created\ndata: {"type":"response.created"}\n\n'
    assert usage.tokens is None
    assert (await anext(events)).startswith(f"event: {last}\n")
    assert (usage.tokens, usage.is_final) == ((3, 2), True)
    await events.aclose()
    assert is_closed


async def test_events_of_other_kinds_are_vllms_own() -> None:
    async def result() -> AsyncGenerator[str, None]:
        yield "data: {}\n\n"

    generator = result()
    assert kinds.events(kinds.CHAT, generator, Usage()) is generator
    await generator.aclose()


@pytest.mark.parametrize("framing", ["openai", "anthropic", "responses"])
def test_error_events_are_recognised_in_every_framing(framing: Any) -> None:
    body = error_body("anthropic" if framing == "anthropic" else "openai", 400, "why", param="top_p")
    assert error_events(framing, body).startswith(kinds.ERROR_EVENTS)


def test_an_error_event_of_vllm_has_the_fields_of_its_error_info() -> None:
    """OpenAI's has them all; Anthropic's has only a message."""
    full = kinds.error_of('data: {"error": {"message": "why", "type": "x", "param": "n", "code": 400}}\n\n')
    assert (full.code, full.message, full.param) == (400, "why", "n")
    short = kinds.error_of('event: error\ndata: {"type": "error", "error": {"type": "x", "message": "why"}}\n\n')
    assert (short.code, short.message, short.param) == (500, "why", None)
