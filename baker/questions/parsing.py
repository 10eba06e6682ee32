"""Reads the lists of questions that models write, and compares questions by their words."""

import re

from baker.questions.writers import Answer

_MARKER = re.compile(
    r"^\s*(?:[-*•+]\s+|#+\s*|\(?\d{1,3}\s*[.):]\s*|(?:q|question|user)\s*\d*\s*[:.)]\s*)+", re.IGNORECASE
)
_INLINE_NUMBER = re.compile(r"(?<=[?.!])\s+(?=\d{1,3}[.)]\s)")
_ANSWER = re.compile(r"^\s*(?:a|answer|assistant|response|note)\s*\d*\s*:", re.IGNORECASE)
_QUOTES = "*_`\"' \u2018\u2019\u201c\u201d"
_MIN_WORDS, _MAX_CHARACTERS = 3, 400


def parse_questions(answer: Answer) -> list[str]:
    """The questions in a model's list, without numbering, bullets, quotes and text around the list."""
    lines = [part for line in answer.text.splitlines() for part in _INLINE_NUMBER.split(line)]
    if answer.is_cut and lines:
        lines.pop()
    questions = []
    for line in lines:
        bare = _MARKER.sub("", line)
        is_listed = bare != line.lstrip()
        question = bare.strip().strip(_QUOTES).strip()
        if _ANSWER.match(bare) or question.endswith(":") or not (is_listed or question.endswith("?")):
            continue
        if len(question) <= _MAX_CHARACTERS and len(re.findall(r"[^\W\d_]+", question)) >= _MIN_WORDS:
            questions.append(question)
    return questions


def question_key(question: str) -> str:
    """A key that is equal for questions with the same words, whatever their case, punctuation and spacing."""
    return " ".join(re.findall(r"\w+", question.casefold()))
