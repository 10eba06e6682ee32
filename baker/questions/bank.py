"""The bank of questions that anyone might be asked, and fair draws from it.

The bank is the package's file `persona_questions.txt`: blocks of a `# category` line and its questions, one a line.
"""

import random
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

FILE = "persona_questions.txt"

Bank = Mapping[str, Sequence[str]]
"""Category -> its questions."""


@cache
def bank() -> Bank:
    """The bank that ships with the package."""
    return parse(resources.files("baker.questions").joinpath(FILE).read_text(encoding="utf-8"))


def parse(text: str) -> Bank:
    """Raises: ValueError naming the line, for a question before the first category or a category given twice."""
    categories: dict[str, list[str]] = {}
    questions: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("#"):
            category = stripped.lstrip("# ")
            if category in categories:
                raise ValueError(f"line {number}: category {category!r} is there already")
            questions = categories[category] = []
        elif stripped:
            if questions is None:
                raise ValueError(f"line {number}: {stripped!r} stands before the first category")
            questions.append(stripped)
    return categories


def balanced_order(bank: Bank, seed: int) -> list[str]:
    """All questions in an order of which every beginning is a fair sample.

    The categories take turns, so that none is ahead by more than one question until it runs out.
    """
    rng = random.Random(seed)
    piles = [rng.sample(questions, len(questions)) for questions in bank.values()]
    rng.shuffle(piles)
    longest = max(map(len, piles), default=0)
    return [pile[turn] for turn in range(longest) for pile in piles if turn < len(pile)]
