"""Anthropic's Messages API on a real service, with Anthropic's client and our question generator."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic

from baker.questions.writers import AnthropicWriter
from tests.gateway.engines import MODEL_NAME
from tests.service import RunningGateway

HELLO: Any = [{"role": "user", "content": "Hi"}]
LIGHT: Any = {
    "name": "light",
    "input_schema": {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        yield client


def test_a_message_whole_and_streamed(client: Anthropic) -> None:
    fields: Any = {"model": MODEL_NAME, "messages": HELLO, "max_tokens": 8, "extra_body": {"temperature": 0}}
    whole = client.messages.create(**fields)
    assert whole.model == MODEL_NAME and whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 8
    with client.messages.stream(**fields) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert whole.content[0].type == "text" and text == whole.content[0].text
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 8


def test_a_message_calls_a_tool(client: Anthropic) -> None:
    choice: Any = {"type": "tool", "name": "light"}
    answer = client.messages.create(model=MODEL_NAME, messages=HELLO, max_tokens=200, tools=[LIGHT], tool_choice=choice)
    calls: list[Any] = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and len(calls) == 1
    assert set(calls[0].input) == {"on"} and isinstance(calls[0].input["on"], bool)


def test_tokens_are_counted(client: Anthropic) -> None:
    short = client.messages.count_tokens(model=MODEL_NAME, messages=HELLO).input_tokens
    long = client.messages.count_tokens(model=MODEL_NAME, messages=HELLO, system="Be kind").input_tokens
    assert 0 < short < long


@pytest.mark.parametrize(
    ("fields", "error", "kind"),
    [
        ({"model": "no/such/model"}, anthropic.NotFoundError, "not_found_error"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": "x" * 600}]}, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_anthropics_shape(client: Anthropic, fields: Any, error: Any, kind: str, stream: bool) -> None:
    with pytest.raises(error) as refused:
        client.messages.create(**{"model": MODEL_NAME, "messages": HELLO, "max_tokens": 8, "stream": stream, **fields})
    assert refused.value.body["type"] == "error"
    assert refused.value.body["error"]["type"] == kind and refused.value.body["error"]["message"]


def test_models_are_listed_and_found(client: Anthropic) -> None:
    assert MODEL_NAME in [model.id for model in client.models.list(limit=1)]
    assert client.models.retrieve(MODEL_NAME).id == MODEL_NAME
    with pytest.raises(anthropic.NotFoundError, match="no/such"):
        client.models.retrieve("no/such")


def test_an_unknown_key_and_an_unknown_path_have_anthropics_shape(gateway: RunningGateway) -> None:
    with (
        Anthropic(base_url=gateway.url, api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as refused,
    ):
        client.messages.create(model=MODEL_NAME, messages=HELLO, max_tokens=8)
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["error"]["type"] == "authentication_error"
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.key}) as plain:
        answer = plain.post("/v1/messages/batches", json={})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.anyio
async def test_a_question_generator_can_ask_a_served_model(gateway: RunningGateway) -> None:
    """The generator's base URL and key are those of a gateway."""
    writer = AnthropicWriter(MODEL_NAME, gateway.key, gateway.url)
    answer = await writer.ask("Write a question", temperature=0.5, max_tokens=12, seed=None)
    assert answer.text and answer.is_cut
    await writer._client.close()
