"""The bank of questions that anyone might be asked, and balanced draws from it.

The bank is the file `persona_questions.txt` in this package: blocks of a line `# category` and its questions, one per
line.
"""

import random
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

FILE = "persona_questions.txt"

Bank = Mapping[str, Sequence[str]]
"""Questions by category."""


@cache
def bank() -> Bank:
    """The bank that is part of the package."""
    return parse(resources.files("baker.questions").joinpath(FILE).read_text(encoding="utf-8"))


def parse(text: str) -> Bank:
    """Raises: ValueError naming the line, if a question comes before the first category or a category comes twice."""
    categories: dict[str, list[str]] = {}
    questions: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("#"):
            category = stripped.lstrip("# ")
            if category in categories:
                raise ValueError(f"line {number}: category {category!r} appears twice")
            questions = categories[category] = []
        elif stripped:
            if questions is None:
                raise ValueError(f"line {number}: {stripped!r} comes before the first category")
            questions.append(stripped)
    return categories


def balanced_order(bank: Bank, seed: int) -> list[str]:
    """All questions in a random order in which the first n are balanced over the categories, for every n.

    The categories take turns, so none is ahead of another by more than one question until the other runs out.
    """
    rng = random.Random(seed)
    shuffled = [rng.sample(questions, len(questions)) for questions in bank.values()]
    rng.shuffle(shuffled)
    longest = max(map(len, shuffled), default=0)
    return [questions[turn] for turn in range(longest) for questions in shuffled if turn < len(questions)]
