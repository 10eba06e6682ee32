"""Whitespace in JSON that a grammar forces, on the tiny model, which writes nearly only whitespace where it may."""

import json
import re
from typing import Any

import msgspec
import pytest

from baker.types import SampleRequest
from gateway.engine import Engine, Reply, StreamReply
from gateway.engine.patches.json_whitespace import MAX_WHITESPACE
from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from tests.gateway.engines import handlers_of, reply_to

pytestmark = pytest.mark.anyio

FLAG = {"type": "boolean"}
FLAT = {"type": "object", "properties": {"a": FLAG, "b": {"enum": ["x y", "z"]}}, "required": ["a", "b"]}
SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": FLAT,
    "nested": {"type": "object", "properties": {"inner": FLAT, "list": {"type": "array", "items": FLAG, "minItems": 2,
        "maxItems": 3}}, "required": ["inner", "list"]},
    "with definitions": {"$defs": {"Flag": FLAG}, "type": "object", "properties": {"a": {"$ref": "#/$defs/Flag"}},
        "required": ["a"]},
    "any of": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"const": 1}, "minItems": 3, "maxItems": 3}]},
    "only guidance can enforce it": {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 5,
        "minimum": 5, "maximum": 20}, "b": FLAG}, "required": ["n", "b"]},
}  # fmt: skip
WHITESPACE = " \n\r\t"
STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)')
"""A string of JSON; the last one may be cut."""


def drowning(engine: Engine) -> dict[str, Any]:
    """Fields of a request that make whitespace likelier than anything else."""
    tokenizer = engine.running().get_tokenizer()
    ids = [tokenizer.encode(character, add_special_tokens=False) for character in WHITESPACE]
    return {"logit_bias": {str(token): 50 for (token,) in ids}, "temperature": 1, "seed": 1}


def longest_whitespace(text: str) -> int:
    """Most whitespace characters in a row outside of strings."""
    return max(len(run) for run in re.findall(rf"[{WHITESPACE}]*", STRING.sub('""', text)))


async def ask(engine: Engine, kind: Kind, fields: dict[str, Any]) -> tuple[int, Any]:
    reply = await reply_to(handlers_of(engine), kind, fields)
    assert isinstance(reply, Reply)
    return reply.status, msgspec.json.decode(reply.body)


async def answer(engine: Engine, outputs: dict[str, Any], max_tokens: int = 150) -> str:
    """The text of a chat under this constraint, which must not use up its tokens."""
    fields = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": max_tokens, **drowning(engine)}
    status, body = await ask(engine, kinds.CHAT, {**fields, "structured_outputs": outputs})
    assert status == 200, body
    choice = body["choices"][0]
    assert choice["finish_reason"] == "stop", choice
    return str(choice["message"]["content"])


@pytest.mark.parametrize("name", SCHEMAS)
async def test_forced_json_has_little_whitespace_and_ends(engine: Engine, name: str) -> None:
    schema = SCHEMAS[name]
    text = await answer(engine, {"json": schema})
    json.loads(text)
    assert 0 < longest_whitespace(text) <= 2 * MAX_WHITESPACE, "one before a separator and one after it"
    assert await answer(engine, {"json": json.dumps(schema)}) == text, "a schema as text is the same schema"


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"disable_any_whitespace": True}, ""),
        ({"whitespace_pattern": ""}, ""),
        ({"whitespace_pattern": "[ ]?"}, " ?"),
        ({"whitespace_pattern": r"\n{0,2}"}, "\n{0,2}"),
        ({"whitespace_pattern": r"[\s]{0,1}\t?"}, "[ \n\r\t]?\t?"),
    ],
)
async def test_whitespace_is_as_the_request_asks(
    engine: Engine, name: str, fields: dict[str, Any], allowed: str
) -> None:
    text = STRING.sub('""', await answer(engine, {"json": SCHEMAS[name], **fields}))
    separators = re.findall(rf"[{WHITESPACE}]*([,:])[{WHITESPACE}]*", text)
    exact = re.findall(rf"(?<![{WHITESPACE}]){allowed}([,:]){allowed}(?![{WHITESPACE}])", text)
    assert separators == exact, text
    rest = re.sub(rf"[{WHITESPACE}]*[,:][{WHITESPACE}]*", ",", text)
    assert longest_whitespace(rest) == 0


SCHEMA_FIELDS: dict[Kind, dict[str, Any]] = {
    kinds.CHAT: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": FLAT}}},
    kinds.COMPLETION: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": FLAT}}},
    kinds.RESPONSES: {"text": {"format": {"type": "json_schema", "name": "x", "schema": FLAT}}},
    kinds.MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": FLAT}}},
}


@pytest.mark.parametrize("kind", SCHEMA_FIELDS, ids=lambda kind: kind.name)
async def test_every_protocol_bounds_whitespace_whole_and_streamed(engine: Engine, kind: Kind) -> None:
    turn = [{"role": "user", "content": "Hi"}]
    fields = {"messages": turn, "prompt": "Hi", "input": "Hi", "max_tokens": 100, "max_output_tokens": 100}
    fields = {**fields, "temperature": 0, **drowning(engine), **SCHEMA_FIELDS[kind]}
    if kind is kinds.RESPONSES:
        del fields["messages"], fields["prompt"]
    status, body = await ask(engine, kind, fields)
    assert status == 200, body
    assert all(reason not in json.dumps(body) for reason in ('"length"', '"max_tokens"', '"max_output_tokens"}')), body
    streamed = await reply_to(handlers_of(engine), kind, {**fields, "stream": True})
    assert isinstance(streamed, StreamReply)
    events = b"".join([event async for event in streamed])
    assert b'"length"' not in events and b'"stop_reason":"max_tokens"' not in events


async def test_json_without_a_schema_is_bounded_too(engine: Engine) -> None:
    fields = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, **drowning(engine)}
    status, body = await ask(engine, kinds.CHAT, fields | {"response_format": {"type": "json_object"}})
    assert status == 200
    content = body["choices"][0]["message"]["content"]
    assert content.startswith("{") and longest_whitespace(content) <= 2 * MAX_WHITESPACE


@pytest.mark.parametrize("parameters", [FLAT, SCHEMAS["with definitions"]])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
async def test_arguments_of_forced_tools_have_little_whitespace(
    engine: Engine, parameters: dict[str, Any], choice: Any
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    fields = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 360, **drowning(engine)}
    more = {"tools": [tool], "tool_choice": choice, "parallel_tool_calls": False}
    _, body = await ask(engine, kinds.CHAT, fields | more)
    choice_of_answer = body["choices"][0]
    assert choice_of_answer["finish_reason"] in ("stop", "tool_calls"), choice_of_answer
    json.loads(choice_of_answer["message"]["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize("form", ["present", "first"])
async def test_structural_tags_of_clients_are_bounded(engine: Engine, form: str) -> None:
    tag: dict[str, Any] = {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": FLAT}}
    if form == "first":
        tag = {"structures": [{"begin": "<f>", "schema": FLAT, "end": "</f>"}], "triggers": ["<f>"]}
    params = await checked(engine, {"structural_tag": json.dumps(tag)})
    assert params._backend == "xgrammar"
    assert f'"max_whitespace_cnt": {MAX_WHITESPACE}' in params.structural_tag
    again = await checked(engine, {"structural_tag": params.structural_tag.replace(": 1}", ": 7}")})
    assert '"max_whitespace_cnt": 7' in again.structural_tag, "the client's own limit counts"


async def checked(engine: Engine, outputs: dict[str, Any]) -> Any:
    """The constraint as it is sent to the engine."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    llm = engine.running()
    params = SamplingParams(structured_outputs=StructuredOutputsParams(**outputs))
    config = llm.vllm_config
    for _ in range(2):  # vLLM may check the same parameters twice
        params._validate_structured_outputs(config.model_config, config.structured_outputs_config, llm.get_tokenizer())
    return params.structured_outputs


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"regex": "a {3}b"}, "a   b"),
        ({"choice": ["  spaced"], "whitespace_pattern": "x"}, "  spaced"),
        ({"grammar": 'root ::= "a" "  " "b"', "disable_any_whitespace": True}, "a  b"),
    ],
)
async def test_other_constraints_are_unchanged(engine: Engine, outputs: dict[str, Any], expected: str) -> None:
    assert await answer(engine, outputs) == expected


@pytest.mark.parametrize("pattern", ["x", "(", "[a ]?", ".*", " ", "[ ]+", r"\n{1,2}", r"\s|x", "[^a]?"])
async def test_a_pattern_that_cannot_be_honoured_is_400(engine: Engine, pattern: str) -> None:
    outputs = {"json": FLAT, "whitespace_pattern": pattern}
    status, body = await ask(
        engine, kinds.CHAT, {"messages": [{"role": "user", "content": "Hi"}], "structured_outputs": outputs}
    )
    error = body["error"]
    assert (status, error["param"]) == (400, "structured_outputs")
    assert "whitespace_pattern is" in error["message"] and "(parameter=" not in error["message"]


async def test_a_pattern_with_a_structural_tag_is_400(engine: Engine) -> None:
    tag = json.dumps({"type": "structural_tag", "format": {"type": "json_schema", "json_schema": FLAT}})
    outputs = {"structural_tag": tag, "disable_any_whitespace": True}
    fields = {"messages": [{"role": "user", "content": "Hi"}], "structured_outputs": outputs}
    status, body = await ask(engine, kinds.CHAT, fields)
    assert (status, body["error"]["param"]) == (400, "structured_outputs")


async def test_a_schema_that_no_backend_can_enforce_names_the_clients_own_field(engine: Engine) -> None:
    schema = {"type": "array", "items": FLAG, "uniqueItems": True}
    status, body = await ask(engine, kinds.RESPONSES, {"input": "Hi", "text": {"format": {
        "type": "json_schema", "name": "x", "schema": schema}}})  # fmt: skip
    assert (status, body["error"]["param"]) == (400, "text")
    assert "uniqueItems" in body["error"]["message"]


@pytest.mark.parametrize("combining", ["allOf", "anyOf", "$ref"])
async def test_objects_made_of_several_parts_stay_open(engine: Engine, combining: str) -> None:
    """Closing each part would leave no text that fits all."""
    more = {"type": "object", "properties": {"m": {"type": "integer", "multipleOf": 5}}, "required": ["m"]}
    first = {"type": "object", "properties": {"a": FLAG}, "required": ["a"]}
    schema = {
        "allOf": {"allOf": [first, more]},
        "anyOf": {**first, "anyOf": [more]},
        "$ref": {**first, "$ref": "#/$defs/More", "$defs": {"More": more}},
    }[combining]
    params = await checked(engine, {"json": schema})
    assert params._backend == "guidance"
    assert '"additionalProperties": false' not in json.dumps(params.json)


async def test_samples_of_the_baker_are_bounded(engine: Engine) -> None:
    context = await engine.generation.tokenise([{"role": "user", "content": "Hi"}])
    extra = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": FLAT}}}
    sample = await engine.generation.sample(
        SampleRequest(
            context, max_tokens=100, temperature=1.0, extra=extra | {"logit_bias": drowning(engine)["logit_bias"]}
        )
    )
    assert longest_whitespace(sample.text) <= 2 * MAX_WHITESPACE
    json.loads(sample.text)
