"""What a prompt may hold: messages and tools in OpenAI's format."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec

from baker.config.mistakes import MAX_LISTED, Mistake, find_mistakes, shown


class Function(msgspec.Struct, frozen=True):
    """Unknown fields are kept."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments."""


class Tool(msgspec.Struct, frozen=True):
    """A tool in the format of OpenAI's chat completions. Unknown fields are kept."""

    type: Literal["function"]
    function: Function


TOOL_FORM = '{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'


def prompt_mistakes(messages: list[Any], tools: list[Any] | None) -> list[Mistake]:
    """The first `MAX_LISTED` + 1 mistakes of messages and tools. Items that are no objects are not judged."""
    return list(islice(_mistakes(messages, tools or []), MAX_LISTED + 1))


def _mistakes(messages: list[Any], tools: list[Any]) -> Iterator[Mistake]:
    for index, message in enumerate(messages):
        if isinstance(message, dict):
            for path, text in _message_mistakes(message):
                yield Mistake(("messages", str(index), *path), text)
    for index, tool in enumerate(tools):
        if isinstance(tool, dict):
            for path, text in find_mistakes(tool, Tool):
                yield Mistake(("tools", str(index), *path), f"{text}{_form(tool)}")


def _message_mistakes(message: dict[str, Any]) -> list[Mistake]:
    mistakes = []
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        mistakes.append(Mistake(("role",), f"must be a string such as 'system' or 'user', got {shown(role)}"))
    if content is not None and not isinstance(content, str | list):
        text = f"must be a string, a list of parts or null, got {shown(content)}"
        mistakes.append(Mistake(("content",), text))
    return mistakes


def _form(tool: dict[str, Any]) -> str:
    """Advice for a tool in the format of another API, all of whose fields are one level too high."""
    return "" if "function" in tool else f"; write a tool as {TOOL_FORM}"
