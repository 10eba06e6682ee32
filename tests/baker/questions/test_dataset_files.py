import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.errors import StimError
from baker.questions.dataset_files import questions_in, read_questions

ROWS = [
    {"id": "1", "question": "Who, me?"},
    {"id": "2", "question": '"Quoted"\nand broken'},
    {"id": "3", "question": "   "},
    {"id": "4", "question": "Wo bröselt's? 🍞"},
]
QUESTIONS = ["Who, me?", '"Quoted"\nand broken', "Wo bröselt's? 🍞"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    match path.suffix:
        case ".jsonl":
            path.write_text("\n\n".join(map(json.dumps, rows)))
        case ".json":
            path.write_text(json.dumps(rows, indent=1))
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pytest.importorskip("pyarrow", reason="comes with the extra `datasets`")
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_all_formats_give_the_same_questions(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"set{suffix}", ROWS)
    assert read_questions(path, None) == QUESTIONS
    assert read_questions(path, "id") == ["1", "2", "3", "4"]
    with pytest.raises(StimError, match=r"no column 'ask'; its columns: 'id', 'question'"):
        read_questions(path, "ask")


def test_a_spreadsheet_s_csv_may_begin_with_a_byte_order_mark_and_end_with_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    path.write_bytes(b"\xef\xbb\xbfQuestion,Answer\r\nWho?,Me\r\n\r\n")
    assert read_questions(path, None) == ["Who?"]


def test_a_json_file_may_be_a_plain_list_of_questions(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text('["Who?", "Where? \\ud800", ""]')
    assert read_questions(path, None) == ["Who?", "Where? ?"]


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("set.jsonl", b'{"question": "Who?"}\n{"question": ', "set.jsonl, line 2 is not valid JSON"),
        ("set.jsonl", b'{"question": "Who?"}\n\n{"question": "\xff"}', "set.jsonl, line 3 is not valid JSON"),
        ("set.jsonl", b'{"question": "Who?"}\n{"question": 3}', "set.jsonl, line 2: .*got 3"),
        ("set.jsonl", b"[1, 2]", r"set.jsonl, line 1: .*got \[1, 2\]"),
        ("set.jsonl", b"[" * 100_000, "set.jsonl, line 1 is not valid JSON"),
        ("set.json", b'[{"question": "Who?"},\n oops]', "set.json is not valid JSON: .*line 2"),
        ("set.json", b'{"question": "Who?"}', "set.json must hold a list of rows, got dict"),
        ("set.csv", b"question,answer\nWho?,Me\nWho, me?,You\n", "set.csv, line 3: 3 cells under a header of 2"),
        ("set.csv", b'question\n"Who?\n', "set.csv can't be read after line 2"),
        ("set.csv", b"question\nWho?\n\xff\n", "set.csv can't be read"),
        ("set.parquet", b"PAR1", "set.parquet is not valid Parquet"),
    ],
)
def test_broken_content_is_named_with_its_file_and_line(
    tmp_path: Path, file: str, content: bytes, complaint: str
) -> None:
    if file.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="comes with the extra `datasets`")
    (tmp_path / file).write_bytes(content)
    with pytest.raises(StimError, match=complaint):
        read_questions(tmp_path / file, None)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StimError, match=r"set.csv is missing"):
        read_questions(tmp_path / "set.csv", None)


def questions_of(row: dict[str, Any], column: str | None = None) -> list[str]:
    return questions_in([("row 1", row)], column, "set")


CHAT = [
    {"role": "system", "content": "Be kind"},
    {"role": "user", "content": [{"type": "text", "text": "Who are you?"}]},
    {"role": "user", "content": "And who am I?"},
]


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"answer": "a", "text": "t", "question": "q"}, "q"),
        ({"answer": "a", "text": "t", "Prompt": "p"}, "p"),
        ({"input": "i", "instruction": "n"}, "n"),
        ({"only": "o", "number": 3}, "o"),
        ({"messages": CHAT}, "Who are you?"),
        ({"prompt": CHAT, "source": "web"}, "Who are you?"),
        ({"question": 5, "text": "t"}, "t"),
    ],
)
def test_the_column_of_the_questions_is_guessed(row: dict[str, Any], question: str) -> None:
    assert questions_of(row) == [question]


def test_a_column_that_cannot_be_guessed_must_be_named() -> None:
    with pytest.raises(StimError, match=r"set `column`.*'left', 'right'"):
        questions_of({"left": "a", "right": "b"})
    assert questions_of({"left": "a", "right": "b"}, "right") == ["b"]


@given(st.lists(st.fixed_dictionaries({}, optional={"question": st.none() | st.text(), "other": st.integers()})))
def test_rows_without_a_question_are_left_out(rows: list[dict[str, Any]]) -> None:
    first: dict[str, Any] = {"question": "First?"}
    places = [(f"row {i}", row) for i, row in enumerate([first, *rows])]
    expected = ["First?"]
    for row in rows:
        text = (row.get("question") or "").strip()
        if text:
            expected.append(text)
    assert questions_in(places, None, "set") == expected
