"""The parsers of a model's tool calls and reasoning. Reading an answer with one: test_generation.py."""

import json
from pathlib import Path

import pytest

from gateway.engine import Engine
from gateway.engine.core.tools import DEFAULT_PARSER, MARKS, parser_for, read_answer, reasoning_parser_for


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        ("{{ bos_token }}[AVAILABLE_TOOLS] ... [TOOL_CALLS]", "mistral"),
        ("<|python_tag|>{{ call }}<|eom_id|>", "llama3_json"),
        ("<tool_call>\\n{{ call }}\\n</tool_call>", "hermes"),
        ("<tool_call>\\n<function={{ name }}>", "qwen3_xml"),
        ("<|im_start|>{{ message.content }}", DEFAULT_PARSER),
    ],
)
def test_the_chat_template_decides_the_parser(tmp_path: Path, template: str, parser: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert parser_for(tmp_path) == parser
    (tmp_path / "chat_template.jinja").write_text("[TOOL_CALLS]")
    assert parser_for(tmp_path) == "mistral", "the file wins"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"chat_template": null}', '{"chat_template": [{"name": "x"}]}'])
def test_without_a_template_it_is_the_default(tmp_path: Path, content: str) -> None:
    assert parser_for(tmp_path) == DEFAULT_PARSER
    (tmp_path / "tokenizer_config.json").write_text(content)
    assert parser_for(tmp_path) == DEFAULT_PARSER


@pytest.mark.parametrize(
    ("template", "token", "parser"),
    [
        ("{% if enable_thinking %}<think>{% endif %}", "</think>", "qwen3"),
        ("{{ content.split('</think>') }}", "</think>", "deepseek_r1"),
        ("<arg_key> ... </think>", "</think>", "glm45"),
        ("[THINK]", "[/THINK]", "mistral"),
        ("{{ content.split('</think>') }}", "</other>", None),
        ("{{ content }}", "</think>", None),
    ],
)
def test_the_chat_template_and_the_tokens_decide_the_reasoning_parser(
    tmp_path: Path, template: str, token: str, parser: str | None
) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    assert reasoning_parser_for(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 1, "content": token}]}))
    assert reasoning_parser_for(tmp_path) == parser


async def test_vllm_knows_every_parser_that_a_template_may_choose(engine: Engine) -> None:
    from vllm.tool_parsers import ToolParserManager

    assert {*MARKS.values(), DEFAULT_PARSER} <= set(ToolParserManager.list_registered())


@pytest.mark.parametrize(
    ("before", "calls"), [("", 0), ('<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', 1)]
)
async def test_an_answer_of_the_baker_keeps_only_complete_calls(engine: Engine, before: str, calls: int) -> None:
    text = before + '<tool_call>{"name": "f", "arguments": {"a": '
    tokenizer = engine.running().get_tokenizer()
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    answer = read_answer(DEFAULT_PARSER, tokenizer, tokenizer.encode(text, add_special_tokens=False), [tool])
    assert [call["function"]["arguments"] for call in answer.tool_calls] == ['{"a": 1}'] * calls
    assert answer.content == (None if calls else text)
