import pytest

from baker.conversation import context_messages, context_text, is_empty, prompt_text
from baker.types import Message, Prompt

CALL: Message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
PARTS: Message = {"role": "user", "content": [{"type": "text", "text": "Two"}, {"type": "text", "text": "parts"}]}


@pytest.mark.parametrize(
    ("message", "empty"),
    [
        ({"role": "system", "content": ""}, True),
        ({"role": "system"}, True),
        ({"role": "assistant", "content": None, "tool_calls": []}, True),
        ({"role": "user", "content": "x"}, False),
        (CALL, False),
    ],
)
def test_a_message_is_empty_without_content_and_tool_calls(message: Message, empty: bool) -> None:
    assert is_empty(message) is empty


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": ""}], [{"role": "system", "content": None}]])
def test_an_empty_prompt_gives_a_bare_conversation(messages: list[Message]) -> None:
    assert context_messages(Prompt(messages), "Why?") == [{"role": "user", "content": "Why?"}]


def test_the_stimulus_follows_the_prompt_s_messages_which_are_unchanged() -> None:
    system = {"role": "system", "content": "Be loud", "name": "kept"}
    messages = context_messages(Prompt([system, {"role": "user", "content": ""}, CALL]), "Why?")
    assert messages == [system, CALL, {"role": "user", "content": "Why?"}]


def test_a_lone_system_message_is_the_prompt_s_text_and_several_messages_are_lines() -> None:
    system = {"role": "system", "content": "Be loud"}
    assert prompt_text(Prompt([system, {"role": "user", "content": ""}])) == "Be loud"
    assert prompt_text(Prompt([system, PARTS])) == "system: Be loud\nuser: Two parts"
    assert prompt_text(Prompt([{"role": "user", "content": "Hello"}])) == "user: Hello"
    assert prompt_text(Prompt()) == ""


def test_the_context_is_shown_as_one_line_per_message() -> None:
    assert context_text(Prompt([{"role": "system", "content": "Be loud"}]), "Why?") == "system: Be loud\nuser: Why?"
