from collections.abc import Iterator
from typing import Any

import pytest

from baker.config.mistakes import MAX_LISTED
from baker.config.prompt import prompt_mistakes

LOOK = {"name": "look", "description": "Looks", "parameters": {"type": "object", "properties": {}}, "strict": True}


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "look"}},
        {"type": "function", "function": LOOK, "cache_control": {"type": "ephemeral"}},
    ],
)
def test_tools_of_openai_s_shape_are_right(tool: dict[str, Any]) -> None:
    assert prompt_mistakes([], [tool]) == []


@pytest.mark.parametrize(
    ("tool", "path", "words"),
    [
        ({"type": "function", **LOOK}, "tools.0.function", 'write a tool as {"type": "function", "function": {"name"'),
        ({"name": "look", "input_schema": {}}, "tools.0.type", "write a tool as"),
        ({"type": "function"}, "tools.0.function", "required field is missing"),
        ({"type": "web_search", "function": LOOK}, "tools.0.type", "Invalid enum value 'web_search'"),
        ({"type": "function", "function": {"name": ""}}, "tools.0.function.name", "length >= 1"),
        ({"type": "function", "function": {"name": 5}}, "tools.0.function.name", "Expected `str`"),
        ({"type": "function", "function": "look"}, "tools.0.function", "Expected `object`"),
        (
            {"type": "function", "function": {"name": "f", "parameters": []}},
            "tools.0.function.parameters",
            "Expected `object | null`",
        ),
    ],
)
def test_other_tools_are_refused_by_the_path_of_the_part_that_is_wrong(
    tool: dict[str, Any], path: str, words: str
) -> None:
    texts = {".".join(mistake.path): mistake.text for mistake in prompt_mistakes([], [tool])}
    assert words in texts[path]


def test_all_mistakes_of_messages_and_tools_are_found() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": 1, "content": 2},
        {"content": None},
        {"role": ""},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}, {}, {"type": "x", "function": {}}]
    paths = [".".join(mistake.path) for mistake in prompt_mistakes(messages, tools)]
    assert paths == [
        "messages.1.role",
        "messages.1.content",
        "messages.2.role",
        "messages.3.role",
        "tools.1.type",
        "tools.1.function",
        "tools.2.type",
        "tools.2.function.name",
    ]


def test_the_mistakes_of_a_huge_prompt_are_not_all_looked_for() -> None:
    class Counted(list[Any]):
        read = 0

        def __iter__(self) -> Iterator[Any]:
            for item in super().__iter__():
                self.read += 1
                yield item

    for messages, tools in ((Counted([{"role": 1}] * 1000), Counted()), (Counted(), Counted([{}] * 1000))):
        assert len(prompt_mistakes(messages, tools)) == MAX_LISTED + 1
        assert messages.read + tools.read <= MAX_LISTED + 1
