"""Forced tool calls that `max_tokens` cuts, whole and streamed, in every protocol."""

import json
from typing import Any

import msgspec
import pytest

from gateway.engine import Engine, Reply, StreamReply
from gateway.engine.patches.cut_answers import _as_far_as_written
from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from tests.gateway.engines import handlers_of, reply_to

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object", "properties": {"word": {"enum": ["long text"]}, "on": {"type": "boolean"}},
    "required": ["word", "on"], "additionalProperties": False}  # fmt: skip
TURN = [{"role": "user", "content": "Hi"}]
LENGTHS = [3, 30, 40, 55, 70, 80]
"""Tokens, each a character of `<tool_call>\\n{"name": "light", "arguments": {"word": "long text", "on": true}}...`."""

Call = tuple[str, str]
"""Name and arguments."""


def fields_of(kind: Kind, length: int) -> dict[str, Any]:
    """A request that forces a call of `light`."""
    function = {"name": "light", "parameters": SCHEMA}
    match kind:
        case kinds.MESSAGES:
            tools: Any = [{"name": "light", "input_schema": SCHEMA}]
            return {"messages": TURN, "max_tokens": length, "tools": tools, "tool_choice": {"type": "any"}}
        case kinds.RESPONSES:
            tools = [{"type": "function", **function}]
            return {"input": "Hi", "max_output_tokens": length, "tools": tools, "tool_choice": "required"}
    tools = [{"type": "function", "function": function}]
    return {"messages": TURN, "max_tokens": length, "tools": tools, "tool_choice": "required"}


async def whole(engine: Engine, fields: dict[str, Any], kind: Kind = kinds.CHAT) -> Any:
    reply = await reply_to(handlers_of(engine), kind, {"temperature": 0, **fields})
    assert isinstance(reply, Reply) and reply.status == 200, reply.body if isinstance(reply, Reply) else reply
    return msgspec.json.decode(reply.body)


async def streamed(engine: Engine, fields: dict[str, Any], kind: Kind = kinds.CHAT) -> list[Any]:
    reply = await reply_to(handlers_of(engine), kind, {"temperature": 0, **fields, "stream": True})
    assert isinstance(reply, StreamReply)
    lines = [line for line in b"".join([event async for event in reply]).split(b"\n") if line.startswith(b"data: {")]
    return [msgspec.json.decode(line.removeprefix(b"data: ")) for line in lines]


def joined(deltas: list[Any]) -> list[Call]:
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        for piece in delta.get("tool_calls") or []:
            call = calls.setdefault(piece["index"], ["", ""])
            call[0] += piece["function"].get("name") or ""
            call[1] += piece["function"].get("arguments") or ""
    return [(name, uniform(arguments)) for name, arguments in calls.values()]


def uniform(arguments: str) -> str:
    """Complete arguments without differences in whitespace; a stream has the model's own."""
    try:
        return json.dumps(json.loads(arguments))
    except ValueError:
        return arguments.rstrip()


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_cut_chat_has_the_call_as_far_as_it_came(engine: Engine, length: int) -> None:
    (choice,) = (await whole(engine, fields_of(kinds.CHAT, length)))["choices"]
    assert choice["finish_reason"] == "length"
    assert not choice["message"]["content"]
    calls = [
        (call["function"]["name"], uniform(call["function"]["arguments"]))
        for call in choice["message"].get("tool_calls", [])
    ]
    chunks = await streamed(engine, fields_of(kinds.CHAT, length))
    assert joined([chunk["choices"][0]["delta"] for chunk in chunks]) == calls
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert not any(chunk["choices"][0]["delta"].get("content") for chunk in chunks)
    assert len(calls) == (length >= 30)


async def test_a_call_that_is_complete_but_for_its_closing_tag_is_whole(engine: Engine) -> None:
    fields = fields_of(kinds.CHAT, 200) | {"parallel_tool_calls": False}
    full = await whole(engine, fields)
    (call,) = full["choices"][0]["message"]["tool_calls"]
    needed = full["usage"]["completion_tokens"]
    cut = (await whole(engine, fields | {"max_tokens": needed - 5}))["choices"][0]
    assert [call["function"] for call in cut["message"]["tool_calls"]] == [call["function"]]
    assert cut["finish_reason"] == "length"


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_cut_message_of_anthropics_stops_for_its_length(engine: Engine, length: int) -> None:
    message = await whole(engine, fields_of(kinds.MESSAGES, length), kinds.MESSAGES)
    assert message["stop_reason"] == "max_tokens"
    inputs = [(block["name"], block["input"]) for block in message["content"] if block["type"] == "tool_use"]
    assert not any(block.get("text") for block in message["content"])
    events = await streamed(engine, fields_of(kinds.MESSAGES, length), kinds.MESSAGES)
    names = [event["content_block"]["name"] for event in events if event.get("content_block", {}).get("name")]
    written = "".join(event.get("delta", {}).get("partial_json", "") for event in events)
    assert [name for name, _ in inputs] == names
    assert all(value == _as_far_as_written(written) for _, value in inputs)
    assert [event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta"] == ["max_tokens"]


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_cut_response_is_incomplete(engine: Engine, length: int) -> None:
    response = await whole(engine, fields_of(kinds.RESPONSES, length), kinds.RESPONSES)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    assert all((item["status"] == "completed") is item["arguments"].endswith("}") for item in calls)
    assert "<tool_call>" not in json.dumps(response["output"])
    events = await streamed(engine, fields_of(kinds.RESPONSES, length), kinds.RESPONSES)
    last = events[-1]["response"]
    assert last["status"] == "incomplete"
    names = [(item["name"], uniform(item["arguments"])) for item in last["output"] if item["type"] == "function_call"]
    assert names == [(item["name"], uniform(item["arguments"])) for item in calls]


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("", {}),
        ("{", {}),
        ('{"a', {}),
        ('{"a": ', {}),
        ('{"a": 1', {"a": 1}),
        ('{"a": "x y', {"a": "x y"}),
        ('{"a": [1, {"b": tr', {"a": [1, {}]}),
        ('{"a": 1}', {"a": 1}),
        ("[1", {}),
        ("nonsense", {}),
    ],
)
def test_incomplete_arguments_are_an_object_of_what_was_written(arguments: str, value: dict[str, Any]) -> None:
    assert _as_far_as_written(arguments) == value
