"""Reads the rows of dataset files (JSON lines, JSON, CSV, Parquet), and the questions in rows.

All functions block. This is the only file that imports pyarrow, which is part of the extra `datasets`.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from baker.conversation import first_user_text
from baker.errors import StimError

Rows = Iterator[tuple[str, Any]]
"""(place, row) pairs; a place is text such as "line 3"."""

COLUMNS = (
    "question",
    "prompt",
    "instruction",
    "query",
    "problem",
    "description",
    "input",
    "text",
    "content",
    "messages",
    "conversation",
)
"""Columns to look for questions in, in this order, if no column is named."""


def read_questions(path: Path, column: str | None) -> list[str]:
    """The questions of a file. Raises: StimError naming the file, and the broken line or the available columns."""
    try:
        return questions_in(READERS[path.suffix](path), column, path.name)
    except FileNotFoundError as error:
        raise StimError(f"{path.name} is missing from the folder {path.parent.name!r}: put it back") from error


def questions_in(rows: Iterable[tuple[str, Any]], column: str | None, source: str) -> list[str]:
    """The non-empty texts of a column. A row may also be a text itself.

    Args:
        column: name of the column; None: chosen by looking at the first row.
        source: name of the dataset in error messages.
    Raises: StimError naming the row.
    """
    questions = []
    chosen: str | None = None
    for place, row in rows:
        cell = row
        if isinstance(row, dict):
            chosen = chosen or _choose_column(row, column, source)
            cell = row.get(chosen)
        question = _question(cell)
        if question is None:
            raise StimError(f"{source}, {place}: a question must be a text or a list of messages, got {cell!r:.80}")
        if question:
            # JSON can encode half a surrogate pair, which UTF-8 files can't hold.
            questions.append(question.encode(errors="replace").decode())
    return questions


def _choose_column(row: dict[str, Any], column: str | None, source: str) -> str:
    available = ", ".join(map(repr, row)) or "none"
    if column is not None:
        if column not in row:
            raise StimError(f"{source} has no column {column!r}; its columns: {available}")
        return column
    columns = {name.casefold(): name for name in row}
    for candidate in COLUMNS:
        if candidate in columns and _question(row[columns[candidate]]) is not None:
            return columns[candidate]
    texts = [name for name, cell in row.items() if isinstance(cell, str)]
    if len(texts) == 1:
        return texts[0]
    raise StimError(f"{source}: set `column` to the column that holds the questions: {available}")


def _question(cell: Any) -> str | None:
    """The text of a cell, or of its first user message if it is a chat; "" if it is null; None for anything else."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, list) and all(isinstance(message, dict) and "role" in message for message in cell):
        return first_user_text(cell).strip()
    return None


def _json_lines(path: Path) -> Rows:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"line {number}", _decode(line, f"{path.name}, line {number}")


def _json(path: Path) -> Rows:
    rows = _decode(path.read_bytes(), path.name)
    if not isinstance(rows, list):
        raise StimError(f"{path.name} must hold a list of rows, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _decode(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StimError(f"{where} is not valid JSON: {error}") from error


def _csv(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            for cells in reader:
                place = f"line {reader.line_num}"
                if cells and len(cells) != len(header):
                    raise StimError(
                        f"{path.name}, {place}: {len(cells)} cells under a header of {len(header)}: quote texts that "
                        "contain a comma"
                    )
                if cells:
                    yield place, dict(zip(header, cells, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise StimError(f"{path.name} can't be read after line {reader.line_num}: {error}") from error


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pyarrow.ArrowException, ValueError) as error:
        raise StimError(f"{path.name} is not valid Parquet: {error}") from error


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
