"""Fields that are refused before vLLM sees them. vLLM's own refusals are tested in test_handlers.py."""

from typing import Any

import pytest

from gateway.engine.requests.checks import (
    MAX_CHOICES,
    MAX_DETOKENIZED,
    MAX_GRAMMAR_CHARACTERS,
    MAX_GRAMMAR_VALUES,
    MAX_MESSAGES,
    MAX_PROMPTS,
    MAX_STOPS,
    MAX_TOKENIZED,
    MAX_TOOLS,
    check,
    grammar_field,
)
from gateway.errors import FieldRefusedError

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
TURN = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": None}, "messages", "messages must be a list of messages, got nothing"),
        ({"messages": 5}, "messages", "got 5"),
        ({"messages": [TURN, "x"]}, "messages", "messages[1] must be an object"),
        ({"messages": [{}]}, "messages", "messages[0].role"),
        ({"messages": [{"role": 5}]}, "messages", "messages[0].role must be a string, got 5"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages", "messages[0].content"),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages", "messages[0].tool_calls"),
        ({"messages": []}, "messages", "at least one message"),
        ({"n": 2, "temperature": 0}, "n", "n is 2, and at temperature 0 all answers are the same"),
        ({"n": 16, "temperature": 1e-6}, "n", "set n to 1, or a temperature"),
        ({"n": 17}, "n", "at most 16"),
        ({"n": "17"}, "n", "at most 16"),
        ({"n": 1e300}, "n", "64 bits"),
        ({"prompt_logprobs": 21}, "prompt_logprobs", "at most 20"),
        ({"prompt_logprobs": "64"}, "prompt_logprobs", "prompt_logprobs is 64"),
        ({"echo": True, "logprobs": 64}, "logprobs", "at most 20"),
        ({"echo": True, "logprobs": True, "top_logprobs": 64}, "top_logprobs", "at most 20"),
        ({"structured_outputs": 5}, "structured_outputs", "got 5"),
        ({"structured_outputs": "{}"}, "structured_outputs", "must be an object"),
        ({"structured_outputs": {}}, "structured_outputs", "got none"),
        ({"structured_outputs": {"whitespace_pattern": " ?"}}, "structured_outputs", "must have one of json"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs", "got json and regex"),
        ({"structured_outputs": {"choice": ["a"] * (MAX_CHOICES + 1)}}, "structured_outputs", f"{MAX_CHOICES}"),
        ({"structured_outputs": {"json": {"enum": [1] * MAX_GRAMMAR_VALUES}}}, "structured_outputs", "16387 values"),
        ({"structured_outputs": {"regex": "a" * (MAX_GRAMMAR_CHARACTERS + 1)}}, "structured_outputs", "characters"),
        ({"response_format": {"json_schema": {"schema": {"a" * MAX_GRAMMAR_CHARACTERS: 1}}}}, "response_format", "131"),
        ({"text": {"format": {"schema": [{}] * MAX_GRAMMAR_VALUES}}}, "text", "at most 16384"),
        ({"output_config": {"format": {"schema": [[]] * MAX_GRAMMAR_VALUES}}}, "output_config", "at most 16384"),
        ({"tools": [{"a": [1] * MAX_GRAMMAR_VALUES}], "tool_choice": "required"}, "tools", "at most 16384"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages", "messages[0].content[0].text"),
        ({"messages": [TURN] * (MAX_MESSAGES + 1)}, "messages", f"at most {MAX_MESSAGES}"),
        ({"messages": [{"role": "user", "content": ["x"] * MAX_MESSAGES}]}, "messages", f"with {MAX_MESSAGES} parts"),
        ({"stop": ["a"] * (MAX_STOPS + 1)}, "stop", f"at most {MAX_STOPS}"),
        ({"tools": [{}] * (MAX_TOOLS + 1)}, "tools", f"at most {MAX_TOOLS}"),
        ({"stream_interval": 1e30}, "stream_interval", "64 bits"),
        ({"stop_token_ids": [2**63]}, "stop_token_ids", "64 bits"),
        ({"vllm_xargs": {"a": [-(2**64)]}}, "vllm_xargs", "64 bits"),
    ],
)
def test_a_field_is_refused_by_its_name(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(FieldRefusedError) as refused:
        check("chat", {**CHAT, **fields}, max_n=16)
    assert refused.value.param == param
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("kind", "fields", "param"),
    [
        ("completion", {"prompt": ["a", 1]}, "prompt"),
        ("completion", {"prompt": [[1], "a"]}, "prompt"),
        ("completion", {"prompt": [None]}, "prompt"),
        ("completion", {"prompt": [[1]] * (MAX_PROMPTS + 1)}, "prompt"),
        ("completion", {"prompt": ["a"] * (MAX_PROMPTS // 16 + 1), "n": 16}, "n"),
        ("completion", {"prompt": [[1]] * (MAX_PROMPTS // 2 + 1), "n": 2}, "n"),
        ("detokenize", {"tokens": [1] * (MAX_DETOKENIZED + 1)}, "tokens"),
        ("responses", {"background": True}, "background"),
        ("responses", {"input": []}, "input"),
        ("messages", {"messages": []}, "messages"),
        ("count_tokens", {"messages": []}, "messages"),
        ("tokenize", {"messages": []}, "messages"),
        ("completion", {"prompt": "x", "n": 2, "temperature": 0.0}, "n"),
        ("responses", {"previous_response_id": "resp_1"}, "previous_response_id"),
        ("responses", {"input": [{}] * (MAX_MESSAGES + 1)}, "input"),
        ("messages", {"messages": [TURN] * (MAX_MESSAGES + 1)}, "messages"),
        ("tokenize", {"prompt": "x" * (MAX_TOKENIZED + 1)}, "prompt"),
    ],
)
def test_fields_of_other_kinds_are_refused_by_name_too(kind: str, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(FieldRefusedError) as refused:
        check(kind, fields, max_n=16)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stop": ["a"] * MAX_STOPS},
        {"seed": 2**63 - 1, "logit_bias": {"1": -100}},
        {"tools": [{"function": {"parameters": {"maximum": 1e30}}}]},
        {"n": 16},
        {"n": None},
        {"n": "many"},
        {"prompt_logprobs": 20},
        {"echo": False, "logprobs": 64, "top_logprobs": 64},
        {"structured_outputs": {"choice": ["a", "b"]}},
        {"structured_outputs": {"json": {"enum": [1] * (MAX_GRAMMAR_VALUES - 3)}}},
        {"response_format": {"description": "a" * MAX_GRAMMAR_CHARACTERS, "title": "a" * MAX_GRAMMAR_CHARACTERS}},
        {"tools": [{"a": [1] * MAX_GRAMMAR_VALUES}]},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "user", "content": ["x"]}]},
        {"n": 2, "temperature": None},
        {"n": 2, "temperature": 0.5},
        {"n": 1, "temperature": 0},
        {"n": 2, "temperature": 0, "use_beam_search": True},
    ],
)
def test_vllm_checks_everything_else(fields: dict[str, Any]) -> None:
    check("chat", {**CHAT, **fields}, max_n=16)
    for prompt in ("x", ["x", "y"], [1, 2], [1] * (MAX_PROMPTS + 1), [[1], [2]], ["x"] * (MAX_PROMPTS // 16), []):
        check("completion", {"prompt": prompt, **fields}, max_n=16)


STRICT = {"type": "function", "function": {"name": "f", "strict": True}}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config"),
        ({"tools": [{}], "tool_choice": "required"}, "tools"),
        ({"tools": [{}], "tool_choice": {"type": "any"}}, "tools"),
        ({"tools": [STRICT]}, "tools"),
        ({"tools": [STRICT["function"]], "tool_choice": "auto"}, "tools"),
        ({"tools": [{}, 5, {"function": 5}]}, None),
        ({"tools": [{}], "tool_choice": {"type": "auto"}}, None),
        ({"tools": 5, "tool_choice": "required"}, None),
        ({"output_config": {"effort": "low"}, "text": 5}, None),
        ({"text": {"format": {"type": "text"}}, "response_format": {"type": "text"}}, None),
        ({"structured_outputs": None, "response_format": None, "tools": []}, None),
    ],
)
def test_the_field_that_holds_a_grammar_is_named(fields: dict[str, Any], field: str | None) -> None:
    assert grammar_field(fields) == field
