"""Reads the question in one cell of a dataset: a text, or the first user turn of a dialogue in any common shape.

A question is the empty text if the cell has none: it is null or blank, or nobody speaks as the user.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

USERS = ("user", "human", "prompter")
"""Names of the speaker who asks."""
SPEAKERS = ("role", "from", "speaker")
"""Fields of a turn that name its speaker: OpenAI's and others'."""
TEXTS = ("content", "value", "text")
"""Fields of a turn that hold its text."""
DIALOGUES = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "data")
"""Fields that hold a dialogue in a row or in a cell that is an object."""

# Anthropic's HH-RLHF: whole dialogues as one text.
_HUMAN_TURN = re.compile(r"(?s)\s*Human:(.*?)(?:\n\n(?:Assistant|Human):|\Z)")
_PYTHON_LIST = re.compile(r"\[\s*\{\s*'")


def question_in(cell: Any) -> str | None:
    """The question, without space around it. None if the cell has no readable shape."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return _in_text(cell.strip())
    if isinstance(cell, dict):
        return _in_object(cell)
    if isinstance(cell, list):
        return _in_turns(cell)
    return None


def is_dialogue(cell: Any) -> bool:
    """Whether the cell is surely a dialogue: turns that name their speakers, one of them a user with a text."""
    if isinstance(cell, dict) and (inner := _first(cell, DIALOGUES)) is not None:
        cell = cell[inner]
    return isinstance(cell, list | dict) and not _is_texts(cell) and bool(question_in(cell))


def _in_text(text: str) -> str | None:
    if text.startswith("Human:"):
        match = _HUMAN_TURN.match(text)
        return match[1].strip() if match else text
    if text.startswith("[") and text.endswith("]"):  # a dialogue as JSON in the cell of a CSV file
        if _PYTHON_LIST.match(text):
            return None
        try:
            turns = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if isinstance(turns, list) and turns and all(isinstance(turn, dict) for turn in turns):
            return _in_turns(turns)
    return text


def _in_object(cell: dict[str, Any]) -> str | None:
    """A dialogue within an object; or its turns as columns, as some versions of Hugging Face's datasets store them."""
    speaker, text = _first(cell, SPEAKERS), _first(cell, TEXTS)
    if speaker is not None and text is not None and isinstance(cell[speaker], list) and isinstance(cell[text], list):
        return _in_turns([{speaker: who, text: said} for who, said in zip(cell[speaker], cell[text], strict=False)])
    inner = _first(cell, DIALOGUES)
    return _in_turns(cell[inner]) if inner is not None and isinstance(cell[inner], list) else None


def _in_turns(turns: list[Any]) -> str | None:
    """The first user turn. Turns that are plain texts take turns too: the first one is the user's."""
    if _is_texts(turns):
        return turns[0].strip() if turns else ""
    question = None
    for turn in turns:
        if not isinstance(turn, dict) or (speaker := _first(turn, SPEAKERS)) is None:
            return None
        if question is None and str(turn[speaker]).lower() in USERS:
            if (name := _first(turn, TEXTS)) is None:
                return None
            question = _plain(turn[name])
    return "" if question is None else question.strip()


def _is_texts(cell: Any) -> bool:
    return isinstance(cell, list) and all(isinstance(turn, str) for turn in cell)


def _first(fields: dict[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in fields), None)


def _plain(content: Any) -> str:
    """The text of a turn; of OpenAI's list of parts, its texts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
