"""The stricter parser of tool calls. What clients get by it: tests/clients."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.engine import Engine
from gateway.engine.core.tools import DEFAULT_PARSER

CALL = '<tool_call>{"name": "light", "arguments": {"on": true}}</tool_call>'


@pytest.fixture
def parser(engine: Engine) -> Any:
    """The parser that the engine has installed for its model."""
    from vllm.tool_parsers import ToolParserManager

    kind = ToolParserManager.get_tool_parser(DEFAULT_PARSER)
    assert kind.is_strict
    return kind(engine.running().get_tokenizer())


def request(choice: Any, *, strict: bool = False) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    tool = {"type": "function", "function": {"name": "light", "parameters": schema, "strict": strict}}
    return ChatCompletionRequest.model_validate({"messages": [], "tools": [tool], "tool_choice": choice})


def stock(parser: Any) -> Any:
    """vLLM's own parser."""
    return super(type(parser), parser)


def schemas(node: Any) -> Iterator[Any]:
    """All formats of a structural tag that hold text to a JSON schema."""
    from pydantic import BaseModel
    from xgrammar.structural_tag import JSONSchemaFormat

    if isinstance(node, JSONSchemaFormat):
        yield node
    elif isinstance(node, BaseModel):
        for name in type(node).model_fields:
            yield from schemas(getattr(node, name))
    elif isinstance(node, list | tuple):
        for inner in node:
            yield from schemas(inner)


def properties_of(tag: Any) -> list[Any]:
    return [form.json_schema.get("properties") for form in schemas(tag.format) if isinstance(form.json_schema, dict)]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "light"}}])
def test_a_forced_calls_arguments_are_held_to_their_schema(parser: Any, choice: Any) -> None:
    tag = parser.get_structural_tag(request(choice))
    schema = {"on": {"type": "boolean"}}
    declared = properties_of(tag)
    assert declared and all(properties == schema for properties in declared)
    assert schema not in properties_of(stock(parser).get_structural_tag(request(choice))), "vLLM has fixed it"


@pytest.mark.parametrize(
    ("end", "calls"),
    [
        ("<tool_call>", []),
        ('<tool_call>\n{"name": "li', []),
        ('<tool_call>\n{"name": "light", ', [("light", "")]),
        ('<tool_call>\n{"name": "light", "arguments": {"on": t', [("light", '{"on": t')]),
        ('<tool_call>\n{"name": "light", "arguments": {"on": true}', [("light", '{"on": true}')]),
        ('<tool_call>\n{"name": "light", "arguments": {"on": true}}', [("light", '{"on": true}')]),
        ('<tool_call>\n{"name": "light", "arguments": {"on": true}}\n</tool_c', [("light", '{"on": true}')]),
    ],
)
@pytest.mark.parametrize("before", ["", "Hello ", CALL, f"Hello {CALL}{CALL}"])
def test_an_answer_that_ends_within_a_call_has_the_calls_as_far_as_they_came(
    parser: Any, before: str, end: str, calls: list[tuple[str, str]]
) -> None:
    parsed = parser.extract_tool_calls(before + end, request("auto"))
    expected = [("light", '{"on": true}')] * before.count(CALL) + calls
    assert [(call.function.name, call.function.arguments) for call in parsed.tool_calls] == expected
    assert parsed.tools_called, "otherwise vLLM returns the markup as text"
    assert parsed.content == ("Hello " if before.startswith("Hello") else None)
    ids = [call.id for call in parsed.tool_calls]
    assert all(ids) and len(set(ids)) == len(ids)


@pytest.mark.parametrize("text", ["Hello", CALL, f"{CALL}{CALL}", "<tool_call>[1, 2]</tool_call>", "x </tool_call>"])
def test_other_answers_are_read_as_vllm_reads_them(parser: Any, text: str) -> None:
    ours, theirs = (each.extract_tool_calls(text, request("auto")) for each in (parser, stock(parser)))
    assert (ours.tools_called, ours.content) == (theirs.tools_called, theirs.content)
    assert [call.function for call in ours.tool_calls] == [call.function for call in theirs.tool_calls]


def test_a_second_install_changes_nothing_and_unknown_names_are_left_to_vllm(parser: Any) -> None:
    from vllm.tool_parsers import ToolParserManager

    from gateway.engine.patches import forced_tools

    forced_tools.install(DEFAULT_PARSER)
    assert ToolParserManager.get_tool_parser(DEFAULT_PARSER) is type(parser)
    forced_tools.install("no such parser")
