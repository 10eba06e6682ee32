"""Tool calls that fit their schema, also from models that were never taught to make them.

vLLM holds a forced call (`required` or a named function) to the form that the parser reads, but its arguments to their
schema only where the function says `strict`; and it allows any amount of whitespace in them, of which small models make
use until their tokens are spent. An answer that ends within a call loses the whole ones before it, too.
"""

from typing import Any

from pydantic import BaseModel
from vllm.tool_parsers import ToolParserManager
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel
from xgrammar.structural_tag import JSONSchemaFormat

MAX_WHITESPACE = 1


def install(parser: str) -> None:
    """Put a stricter parser in the place of vLLM's; before vLLM makes its handlers, and again is harmless."""
    if parser not in ToolParserManager.list_registered():
        return  # vLLM says so, with those that there are
    known = ToolParserManager.get_tool_parser(parser)
    if getattr(known, "is_strict", False):
        return
    ToolParserManager.register_module(name=parser, module=_stricter(known))


def _stricter(known: type[Any]) -> type[Any]:
    class StricterToolParser(known):  # type: ignore[misc]  # vLLM's classes are Any to us
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
            found = super().extract_tool_calls(model_output, request)
            end = getattr(self, "tool_call_end_token", None)
            if found.tools_called or not isinstance(end, str) or end not in model_output:
                return found
            whole = model_output[: model_output.rindex(end) + len(end)]
            return found if whole == model_output else super().extract_tool_calls(whole, request)

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
