"""Reads the rows of CSV files as spreadsheets write them: finds the delimiter, or refuses with the reason."""

import csv
import io
import re
from collections import Counter
from typing import TextIO

from baker.errors import StimError
from baker.questions.columns import Rows

DELIMITERS = ",;\t|"
SAMPLE_CHARACTERS, SAMPLE_RECORDS = 1 << 16, 20
"""The part of a file that its delimiter is chosen by."""
MAX_CELL = (1 << 31) - 1
_EXCEL = re.compile(r'"?sep=(.)"?\r?\n')
"""The line with which Excel names the delimiter."""
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a '|'"}


def csv_rows(file: TextIO, name: str, delimiter: str | None = None) -> Rows:
    """The rows of a file that was opened with `newline=""`.

    Args: name: of the file in errors; delimiter: None: found.
    Raises: StimError naming the line or the header.
    """
    # The module's own limit of 131,072 characters is for all readers of the process.
    csv.field_size_limit(MAX_CELL)
    sample = file.read(SAMPLE_CHARACTERS)
    file.seek(0)
    skipped = 0
    if (excel := _EXCEL.match(sample)) is not None:
        delimiter, skipped = excel[1], 1
        file.readline()
    reader = csv.reader(file, delimiter=delimiter or _delimiter(sample, name), strict=True)
    try:
        header = next((cells for cells in reader if any(map(str.strip, cells))), [])
        _check_header(header, name)
        for cells in reader:
            place = f"line {reader.line_num + skipped}"
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise StimError(
                    f"{name}, {place}: {len(cells)} cells under a header of {len(header)}: quote texts that contain "
                    f"{_NAMES.get(reader.dialect.delimiter, repr(reader.dialect.delimiter))}"
                )
            yield place, {column.strip(): cell for column, cell in zip(header, cells, strict=True) if column.strip()}
    except csv.Error as error:
        raise StimError(f"{name} can't be read after line {reader.line_num + skipped}: {error}") from error


def _check_header(header: list[str], name: str) -> None:
    counts = Counter(column.strip() for column in header if column.strip())
    if repeated := [column for column, count in counts.items() if count > 1]:
        columns = ", ".join(map(repr, repeated[:10]))
        raise StimError(f"{name}: its header has {columns} more than once: rename one of them")


def _delimiter(sample: str, name: str) -> str:
    """The delimiter that gives all records of the sample the same number of cells, several; else one that the first
    line has, so that an error names the line that differs; else a comma, for a file with one column."""
    fitting = [delimiter for delimiter in DELIMITERS if _splits_evenly(sample, delimiter)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise StimError(
            f"{name} could be separated by {' or by '.join(_NAMES[each] for each in fitting)}: begin it with the line "
            f"sep={fitting[0]} or sep={fitting[1]}"
        )
    header = sample.lstrip().partition("\n")[0]
    return next((delimiter for delimiter in DELIMITERS if delimiter in header), ",")


def _splits_evenly(sample: str, delimiter: str) -> bool:
    records = []
    try:
        for cells in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True):
            if cells:
                records.append(len(cells))
            if len(records) == SAMPLE_RECORDS:
                break
    except csv.Error:
        if len(sample) < SAMPLE_CHARACTERS:
            return False
    if len(sample) == SAMPLE_CHARACTERS and len(records) < SAMPLE_RECORDS:
        records = records[:-1]  # cut in the middle
    return len(set(records)) == 1 and records[0] > 1
