"""Reads the rows of dataset files: JSON lines, JSON, CSV, TSV, Parquet; all but Parquet also packed with gzip.

All functions block. This is the only file that imports pyarrow, which is part of the extra `datasets`.
"""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

from baker.errors import StimError
from baker.questions.cells import question_in
from baker.questions.columns import Rows, questions_in
from baker.questions.csv_files import csv_rows

GZIP = ".gz"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark -> encoding."""


def format_of(name: str) -> str | None:
    """The ending of a file's name that says how to read it; None if it can't be read."""
    bare = name.removesuffix(GZIP)
    suffix = Path(bare).suffix
    if suffix not in READERS or (suffix == PARQUET and bare != name):
        return None
    return suffix


def read_questions(path: Path, column: str | None) -> list[str]:
    """The questions of a file. Raises: StimError naming the file, and the broken line or the available columns."""
    suffix = format_of(path.name)
    assert suffix is not None, f"{path} was found by its format"
    try:
        return questions_in(READERS[suffix](path), column, path.name, has_header=suffix in (".csv", ".tsv"))
    except FileNotFoundError as error:
        raise StimError(f"{path.name} is missing from the folder {path.parent.name!r}: put it back") from error
    except UnicodeDecodeError as error:
        raise StimError(
            f"{path.name} can't be read: line {_undecodable_line(path)} is not in UTF-8 or UTF-16. Save the file as "
            "UTF-8, which Excel calls 'CSV UTF-8'"
        ) from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise StimError(f"{path.name} is not a whole gzip file: {error}") from error


def _undecodable_line(path: Path) -> int:
    """Number of the first line that is not in UTF-8."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _opened(path: Path) -> BinaryIO:
    """The file's bytes, unpacked if gzip packed them, whatever its name."""
    file = path.open("rb")
    if file.read(2) != b"\x1f\x8b":
        file.seek(0)
        return file
    file.close()
    return cast(BinaryIO, gzip.open(path))


def _encoding(file: BinaryIO, name: str) -> str:
    """Raises: StimError if the file holds no text."""
    start = file.read(4096)
    file.seek(0)
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    if b"\0" in start:
        raise StimError(f"{name} is not text: it contains zero bytes. If it is a spreadsheet, save it as CSV in UTF-8")
    return "utf-8"


def _json_lines(path: Path) -> Rows:
    with _opened(path) as file:
        encoding = _encoding(file, path.name)
        # UTF-8's lines are decoded one by one, so that an error can name the line.
        lines: Iterable[bytes | str] = file if encoding == "utf-8" else io.TextIOWrapper(file, encoding)
        for number, line in enumerate(lines, start=1):
            if line.strip():
                row = _decode(line, f"{path.name}, line {number}")
                if number == 1 and isinstance(row, list) and row and _are_rows(row):
                    raise StimError(f"{path.name}, line 1 is a list: a file that is one list of rows is named .json")
                yield f"line {number}", row


def _are_rows(items: list[Any]) -> bool:
    return all(isinstance(item, dict) for item in items) and question_in(items) is None


def _json(path: Path) -> Rows:
    with _opened(path) as file:
        data = file.read()
    if not data.strip():
        return
    rows = _rows_of(_decode(data, path.name), path.name)
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _rows_of(value: Any, name: str) -> list[Any]:
    """The rows of a JSON file: a list, an object that holds one list of rows, or an object of columns."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [cells for cells in value.values() if isinstance(cells, list) and cells]
        if len(lists) == 1 and all(isinstance(row, dict) for row in lists[0]):
            return list(lists[0])
        columns = [list(cells.values()) if isinstance(cells, dict) else cells for cells in value.values()]
        if all(isinstance(cells, list) for cells in columns) and len({len(cells) for cells in columns}) == 1:
            return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    raise StimError(
        f"{name} must hold a list of rows, or an object whose fields are columns of the same length, got "
        f"{type(value).__name__}. A file with one row per line is named .jsonl"
    )


def _decode(data: bytes | str, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StimError(f"{where} is not valid JSON: {error}") from error


def _csv(path: Path) -> Rows:
    return _separated(path, None)


def _tsv(path: Path) -> Rows:
    return _separated(path, "\t")


def _separated(path: Path, delimiter: str | None) -> Rows:
    with _opened(path) as file:
        encoding = _encoding(file, path.name)
        with io.TextIOWrapper(file, encoding, newline="") as text:
            yield from csv_rows(text, path.name, delimiter)


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise StimError(f"{path.name} has several columns {', '.join(map(repr, repeated))}: rename one of them")
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pyarrow.ArrowException, ValueError) as error:
        raise StimError(f"{path.name} is not valid Parquet: {error}") from error


PARQUET = ".parquet"
READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    PARQUET: _parquet,
}
