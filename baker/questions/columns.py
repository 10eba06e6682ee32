"""Chooses the column of a dataset that holds the questions, and reads the questions of its rows."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from baker.errors import StimError
from baker.questions.cells import DIALOGUES, SPEAKERS, USERS, is_dialogue, question_in
from baker.questions.cells import TEXTS as TURN_TEXTS
from baker.suggestions import did_you_mean

Rows = Iterator[tuple[str, Any]]
"""(place, row) pairs; a place is text such as "line 3"."""

QUESTIONS = ("question", "query")
TEXTS = ("prompt", "instruction", "problem", "description", "input", "text", "content", "chosen")
"""Columns to look for questions in, in this order, after dialogues: a `prompt` beside a dialogue may be its system
prompt, a `text` the whole of it."""
INPUTS = ("input", "context")
"""Columns that continue an `instruction` (Alpaca, Dolly)."""
OTHERS = frozenset(
    {
        *("_id", "id", "uuid", "conversation_id", "prompt_id", "name", "title", "url", "source", "subset", "task"),
        *("answer", "answers", "response", "output", "completion", "rejected", "label", "category"),
        *("system", "system_prompt", "model", "language", "created", "date", "timestamp"),
    }
)
"""Columns that hold something other than questions; a set with no other text has no obvious column."""
FIRST_ROWS = 50
"""Rows that the choice looks at: fields of the first one may be null."""
MAX_NAMED = 30
"""Columns that an error names."""
SHAPES = "a text, a list of messages (role and content, or from and value), or a list of texts that alternate"


def questions_in(
    rows: Iterable[tuple[str, Any]], column: str | None, source: str, *, has_header: bool = False
) -> list[str]:
    """The questions of the rows that have one. A row may also be a text or a dialogue itself.

    Args:
        column: name of the column, or a path into objects such as `data.question`; None: chosen by the first rows.
        source: name of the dataset in error messages.
        has_header: whether the columns' names are a line of the file, which may be missing.
    Raises: StimError naming the row or the candidates; or that there are no rows, or none with a question.
    """
    iterator = iter(rows)
    first = [*islice(iterator, FIRST_ROWS)]
    if not first:
        raise StimError(f"{source} has no rows: add at least one question")
    objects = [row for _, row in first if isinstance(row, dict)]
    chosen = _choose(objects, column, source, has_header) if objects else None
    questions = []
    for place, row in chain(first, iterator):
        question = _question(row, chosen, with_input=column is None)
        if question is None:
            cell = _cell(row, chosen) if isinstance(row, dict) and chosen is not None else row
            raise StimError(f"{source}, {place}: a question must be {SHAPES}, got {cell!r:.80}")
        if question:
            # JSON can encode half a surrogate pair, which UTF-8 files can't hold.
            questions.append(question.encode(errors="replace").decode())
    if not questions:
        where = "" if chosen is None else f" in column {chosen!r}"
        raise StimError(f"{source}: none of its rows has a question{where}")
    return questions


def _question(row: Any, column: str | None, *, with_input: bool) -> str | None:
    if not isinstance(row, dict):
        # A list of texts may be anything: a dialogue, several questions, a line of a table.
        return question_in(row) if isinstance(row, str) or is_dialogue(row) or row is None else None
    if column is None:  # the first rows were no objects
        return None
    question = question_in(_cell(row, column))
    if question and with_input and column.casefold() == "instruction":
        inputs = [cell.strip() for name, cell in row.items() if name.casefold() in INPUTS and isinstance(cell, str)]
        return "\n\n".join(filter(None, (question, *inputs)))
    return question


def _cell(row: dict[str, Any], column: str) -> Any:
    """The cell of a column, or the value at a path; None if there is none."""
    if column in row:
        return row[column]
    cell: Any = row
    for name in column.split("."):
        cell = cell.get(name) if isinstance(cell, dict) else None
    return cell


def _choose(rows: list[dict[str, Any]], column: str | None, source: str, has_header: bool) -> str:
    """Raises: StimError naming the columns, if the named one is missing or none is obvious."""
    names = [*dict.fromkeys(name for row in rows for name in row)]
    available = (
        ", ".join(map(repr, names[:MAX_NAMED])) + (", ..." if len(names) > MAX_NAMED else "") if names else "none"
    )
    if column is not None:
        if not any(column in row or _cell(row, column) is not None for row in rows):
            hint = did_you_mean(column, names)
            raise StimError(f"{source} has no column {column!r}; its columns: {available}{hint}")
        return column
    for known in (*QUESTIONS, *DIALOGUES, *TEXTS):
        for name in (name for name in names if name.casefold() == known):
            cells = [row.get(name) for row in rows]
            if any(is_dialogue(cell) if known in DIALOGUES else question_in(cell) for cell in cells):
                if known in TURN_TEXTS:
                    _check_are_no_turns(rows, source)
                return name
    dialogues = [name for name in names if any(_may_be_dialogue(name, row.get(name)) for row in rows)]
    nested = [name for name in names if any(isinstance(row.get(name), list | dict) for row in rows)]
    if len(dialogues) == 1:
        return dialogues[0]
    texts = [name for name in names if any(isinstance(row.get(name), str) for row in rows)]
    candidates = [name for name in texts if name.casefold() not in OTHERS]
    if len(texts) == len(candidates) == 1 and not nested and not has_header:
        return texts[0]
    advice = f"set `column` to the one that holds the questions: {', '.join(map(repr, [*nested, *texts][:MAX_NAMED]))}"
    if has_header:
        advice += ". If these are no names but the first row, put a line with names above it, such as: question"
    raise StimError(f"{source}: {advice if nested or texts else f'none of its columns holds texts: {available}'}")


def _check_are_no_turns(rows: list[dict[str, Any]], source: str) -> None:
    """Raises: StimError if each row is one turn of a dialogue, since answers would count as questions."""
    speakers = {str(row[name]).lower() for row in rows for name in SPEAKERS if name in row}
    if speakers.intersection(USERS) and speakers.difference(USERS):
        raise StimError(
            f"{source}: its rows are single messages, not all of them the user's: put each dialogue into one row, such "
            'as {"messages": [...]}, or set `column` to take the text of every row'
        )


def _may_be_dialogue(name: str, cell: Any) -> bool:
    return is_dialogue(cell) or (name.casefold() in DIALOGUES and isinstance(cell, list) and bool(question_in(cell)))
