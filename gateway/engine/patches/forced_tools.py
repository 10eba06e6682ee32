"""Tool calls that fit their schema, also from models that were not trained for tools.

vLLM 0.32 has two faults here. It forces a call (`required` or a named function) into the parser's format, but its
arguments into their schema only if the function is `strict`. And if a whole answer ends within a call, all its calls
come as text with their markup, while a stream has them as calls.

Remove this when vLLM enforces the schema of forced calls, and returns calls of answers that were cut.
"""

import json
from typing import Any

from vllm.entrypoints.generate.base.protocol import ExtractedToolCallInformation, FunctionCall, ToolCall
from vllm.tool_parsers import ToolParserManager
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel


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
        _is_cut = False
        """Whether the text of a stream has, so far, a call that is not closed."""

        def get_structural_tag(
            self, request: Any, *, reasoning: bool = False, strict_level: ToolStrictLevel = ToolStrictLevel.AUTO
        ) -> Any:
            if request.tool_choice not in ("auto", "none", None):
                strict_level = ToolStrictLevel.PARAMETER
            return super().get_structural_tag(request, reasoning=reasoning, strict_level=strict_level)

        def extract_tool_calls(self, model_output: str, request: Any) -> Any:
            begin, end = (getattr(self, f"tool_call_{edge}_token", None) for edge in ("start", "end"))
            if not isinstance(begin, str) or not isinstance(end, str):
                return super().extract_tool_calls(model_output, request)
            if begin not in model_output:
                is_forced = request.tool_choice not in ("auto", "none", None)
                if is_forced and begin.startswith(model_output.strip()):  # cut within the markup
                    return ExtractedToolCallInformation(tools_called=True, tool_calls=[], content=None)
                return super().extract_tool_calls(model_output, request)
            is_cut = end not in model_output[model_output.rindex(begin) :]
            if not is_cut or self.engine_based_streaming:
                return super().extract_tool_calls(model_output, request)
            return _as_streamed(type(self)(self.model_tokenizer, self.tools), model_output, request, begin)

        def extract_tool_calls_streaming(self, previous_text: str, current_text: str, *args: Any) -> Any:
            begin, end = (getattr(self, f"tool_call_{edge}_token", None) for edge in ("start", "end"))
            if isinstance(begin, str) and isinstance(end, str) and begin in current_text:
                self._is_cut = end not in current_text[current_text.rindex(begin) :]
            return super().extract_tool_calls_streaming(previous_text, current_text, *args)

        def get_remaining_unstreamed_args(self) -> str:
            calls = self.prev_tool_call_arr
            if self._is_cut and calls and "arguments" not in calls[-1]:
                return ""  # vLLM writes {}, as if the call were complete
            return str(super().get_remaining_unstreamed_args())

    return StricterToolParser


def _as_streamed(reader: Any, text: str, request: Any, begin: str) -> Any:
    """What a client of a stream would have received of an answer that ends within a call: the calls as far as they
    came, and no markup.

    Args:
        reader: a new parser.
        begin: the markup before a call.
    """
    ids = reader.model_tokenizer.encode(text, add_special_tokens=False)
    delta = reader.extract_tool_calls_streaming("", text, text, [], ids, ids, request)
    calls: dict[int, dict[str, Any]] = {}
    for piece in delta.tool_calls if delta is not None else ():
        call = calls.setdefault(piece.index, {"id": piece.id, "name": "", "arguments": ""})
        call["name"] += piece.function.name or ""
        call["arguments"] += piece.function.arguments or ""
    return ExtractedToolCallInformation(
        tools_called=True,  # even if no name came: otherwise vLLM returns the markup as text
        tool_calls=[
            ToolCall(id=call["id"], function=FunctionCall(name=call["name"], arguments=_uniform(call["arguments"])))
            for call in calls.values()
        ],
        content=text[: text.index(begin)] or None,
    )


def _uniform(arguments: str) -> str:
    """Complete arguments as vLLM writes those of a complete call; incomplete ones as they came."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except ValueError:
        return arguments
