"""Tool calls that fit their schema, also from models that were not trained for tools.

vLLM 0.32 has three faults here. It forces a call (`required` or a named function) into the parser's format, but its
arguments into their schema only if the function is `strict`. It allows any amount of whitespace in arguments, which
small models write until their tokens are used up. And if an answer ends within a call, its complete calls are lost too.

Remove this when vLLM enforces the schema of forced calls, limits whitespace, and returns complete calls.
"""

from typing import Any

from pydantic import BaseModel
from vllm.tool_parsers import ToolParserManager
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel
from xgrammar.structural_tag import JSONSchemaFormat

MAX_WHITESPACE = 1


def install(parser: str) -> None:
    """Replace vLLM's parser of this name by a stricter one, before vLLM makes its handlers. May be called again."""
    if parser not in ToolParserManager.list_registered():
        return  # vLLM refuses the name, with a list of those that it has
    stock = ToolParserManager.get_tool_parser(parser)
    if getattr(stock, "is_strict", False):
        return
    ToolParserManager.register_module(name=parser, module=_stricter(stock))


def _stricter(stock: type[Any]) -> type[Any]:
    class StricterToolParser(stock):  # type: ignore[misc]  # vLLM's classes are Any to us
        is_strict = True

        def get_structural_tag(
            self, request: Any, *, reasoning: bool = False, strict_level: ToolStrictLevel = ToolStrictLevel.AUTO
        ) -> Any:
            if request.tool_choice not in ("auto", "none", None):
                strict_level = ToolStrictLevel.PARAMETER
            tag = super().get_structural_tag(request, reasoning=reasoning, strict_level=strict_level)
            if tag is not None:
                _bound_whitespace(tag.format)
            return tag

        def extract_tool_calls(self, model_output: str, request: Any) -> Any:
            parsed = super().extract_tool_calls(model_output, request)
            end = getattr(self, "tool_call_end_token", None)
            if parsed.tools_called or not isinstance(end, str) or end not in model_output:
                return parsed
            complete = model_output[: model_output.rindex(end) + len(end)]
            return parsed if complete == model_output else super().extract_tool_calls(complete, request)

    return StricterToolParser


def _bound_whitespace(node: Any) -> None:
    if isinstance(node, JSONSchemaFormat):
        node.max_whitespace_cnt = MAX_WHITESPACE
    elif isinstance(node, BaseModel):
        for name in type(node).model_fields:
            _bound_whitespace(getattr(node, name))
    elif isinstance(node, list | tuple):
        for inner in node:
            _bound_whitespace(inner)
