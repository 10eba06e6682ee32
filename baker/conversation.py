"""From a prompt and a stimulus to the messages that condition the model."""

from collections.abc import Sequence
from typing import Any

from baker.types import Message, Prompt


def context_messages(prompt: Prompt, stimulus: str) -> list[Message]:
    """The prompt's messages, then the stimulus as the user's turn.

    Messages that say nothing are dropped, so an empty prompt means what a client sends at inference: a bare
    conversation.
    """
    said = [message for message in prompt.messages if not is_empty(message)]
    return [*said, {"role": "user", "content": stimulus}]


def is_empty(message: Message) -> bool:
    """True if there is neither content nor a tool call."""
    return not message.get("content") and not message.get("tool_calls")


def prompt_text(prompt: Prompt) -> str:
    """The prompt as plain text, for a model that is to write questions about it."""
    said = [message for message in prompt.messages if not is_empty(message)]
    if [message["role"] for message in said] == ["system"]:
        return _plain(said[0].get("content"))
    return _lines(said)


def context_text(prompt: Prompt, stimulus: str) -> str:
    """What `context_messages` conditions the model on, for people: a line `role: content` a message.

    Tools and tool calls are left out.
    """
    return _lines(context_messages(prompt, stimulus))


def first_user_text(messages: Sequence[Message]) -> str:
    """The first thing that the user says; "" if there is none."""
    return next((_plain(message.get("content")) for message in messages if message["role"] == "user"), "")


def _lines(messages: Sequence[Message]) -> str:
    return "\n".join(f"{message['role']}: {_plain(message.get('content'))}" for message in messages)


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
