"""Tool calls and reasoning: chooses vLLM's parsers for a model, and reads an answer with one.

The choice imports no vLLM, since it is made before the engine starts.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baker.types import ParsedAnswer

if TYPE_CHECKING:
    from vllm.tokenizers import TokenizerLike

DEFAULT_PARSER = "hermes"
"""JSON between <tool_call> tags: the format that most models without one of their own can learn to write."""

MARKS = {
    "[TOOL_CALLS]": "mistral",
    "<|python_tag|>": "llama3_json",
    "\uff5ctool\u2581calls\u2581begin\uff5c": "deepseek_v3",
    "<|tool_calls_section_begin|>": "kimi_k2",
    "<start_function_call>": "functiongemma",
    "<minimax:tool_call>": "minimax_m2",
    "<|channel|>commentary": "openai",
    "<arg_key>": "glm45",
    "<function=": "qwen3_xml",
    "<|tool_call|>": "granite",
    "<tool_call>": "hermes",
}
"""Text that a chat template writes around tool calls -> the parser that reads it back; the first match counts.
Families share architectures (SmolLM2 is a Llama by its config), so the template says more than the model's type."""


def parser_for(model: Path) -> str:
    """The name of the parser for the model in this folder, chosen by its chat template."""
    template = _chat_template(model)
    return next((parser for mark, parser in MARKS.items() if mark in template), DEFAULT_PARSER)


REASONING_MARKS = {
    "[THINK]": ("mistral", "[/THINK]"),
    "<seed:think>": ("seed_oss", "</seed:think>"),
    "<minimax:tool_call>": ("minimax_m2", "</think>"),
    "<arg_key>": ("glm45", "</think>"),
    "enable_thinking": ("qwen3", "</think>"),
    "</think>": ("deepseek_r1", "</think>"),
}
"""Text in a chat template -> the parser that separates reasoning from the answer, and the token that it looks for; the
first match counts."""


def reasoning_parser_for(model: Path) -> str | None:
    """The name of the parser for the model in this folder, chosen by its chat template; None if it does not reason.

    The engine does not start with a parser for a token that the model lacks.
    """
    template, tokens = _chat_template(model), _added_tokens(model)
    return next(
        (parser for mark, (parser, token) in REASONING_MARKS.items() if mark in template and token in tokens), None
    )


def _added_tokens(model: Path) -> set[str]:
    try:
        added = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        return {token["content"] for token in added}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _chat_template(model: Path) -> str:
    """The template's text; empty if there is none. A list of named templates counts as one text."""
    file = model / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    config = model / "tokenizer_config.json"
    try:
        return json.dumps(json.loads(config.read_text(encoding="utf-8")).get("chat_template") or "", ensure_ascii=False)
    except (OSError, ValueError, AttributeError):
        return ""


def read_answer(parser: str, tokenizer: "TokenizerLike", ids: list[int], tools: list[dict[str, Any]]) -> ParsedAnswer:
    """The answer with its calls of `tools` separated from its text, as vLLM's chat handler does it.

    Args:
        ids: the response without its end-of-turn token.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers import ToolParserManager

    # For some models the tags around calls are special tokens; without them the parser would find no calls.
    text = tokenizer.decode(ids, skip_special_tokens=False)
    request = ChatCompletionRequest.model_validate({"messages": [], "tools": tools})
    reader = ToolParserManager.get_tool_parser(parser)(tokenizer, request.tools)
    parsed = reader.extract_tool_calls(text, request)
    # An answer that was cut may end within a call, which no chat template could render again.
    calls = [call.model_dump(exclude_none=True) for call in parsed.tool_calls if _is_json(call.function.arguments)]
    if not calls:
        return ParsedAnswer(tokenizer.decode(ids, skip_special_tokens=True), [])
    return ParsedAnswer(parsed.content or None, calls)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
