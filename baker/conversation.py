"""Combines a prompt and a stimulus into the messages that condition the model."""

from collections.abc import Sequence
from typing import Any

from baker.types import Message, Prompt


def context_messages(prompt: Prompt, stimulus: str) -> list[Message]:
    """The prompt's messages, then the stimulus as the user's turn.

    Empty messages are dropped, so an empty prompt gives what a client sends at inference: a bare conversation.
    """
    return [*_non_empty(prompt), {"role": "user", "content": stimulus}]


def is_empty(message: Message) -> bool:
    """True if the message has neither content nor a tool call."""
    return not message.get("content") and not message.get("tool_calls")


def prompt_text(prompt: Prompt) -> str:
    """The prompt as plain text, for a model that writes questions about it."""
    messages = _non_empty(prompt)
    if [message["role"] for message in messages] == ["system"]:
        return plain_text(messages[0].get("content"))
    return _lines(messages)


def context_text(prompt: Prompt, stimulus: str) -> str:
    """`context_messages` for people to read: one line `role: content` per message, without tools and tool calls."""
    return _lines(context_messages(prompt, stimulus))


def _non_empty(prompt: Prompt) -> list[Message]:
    return [message for message in prompt.messages if not is_empty(message)]


def _lines(messages: Sequence[Message]) -> str:
    return "\n".join(f"{message['role']}: {plain_text(message.get('content'))}" for message in messages)


def plain_text(content: Any) -> str:
    """A message's content as text; of parts, those with text."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
