import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from baker.errors import StimError
from baker.questions.dataset_files import format_of, read_questions

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
        case ".csv" | ".tsv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pytest.importorskip("pyarrow", reason="comes with the extra `datasets`")
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
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
        ("set.json", b'{"question": "Who?"}', "set.json must hold a list of rows, or .* got dict"),
        ("set.csv", b"question,answer\nWho?,Me\nWho, me?,You\n", "set.csv, line 3: 3 cells under a header of 2"),
        ("set.csv", b'question\n"Who?\n', "set.csv can't be read after line 2"),
        ("set.csv", b"question\nWho?\n\xff\n", "set.csv can't be read: line 3 is not in UTF-8"),
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


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_packed_files_and_those_with_a_byte_order_mark_are_read(
    tmp_path: Path, suffix: str, ending: str, encoding: str
) -> None:
    text = write(tmp_path / f"plain{suffix}", ROWS).read_bytes().decode()
    path = tmp_path / f"set{suffix}{ending}"
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if ending else data)
    assert read_questions(path, None) == QUESTIONS
    # A packed file may have lost its ending.
    bare = tmp_path / f"other{suffix}"
    bare.write_bytes(gzip.compress(data))
    assert read_questions(bare, None) == QUESTIONS


SHAREGPT = [{"from": "system", "value": "S"}, {"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_dialogues_are_read_from_every_format_that_holds_them(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"set{suffix}", [{"id": "7", "system": "Be kind", "conversations": SHAREGPT}])
    assert read_questions(path, None) == ["Who?"]


def test_a_csv_file_may_hold_dialogues_as_json(tmp_path: Path) -> None:
    path = write(tmp_path / "set.csv", [{"id": "7", "messages": json.dumps(SHAREGPT)}])
    assert read_questions(path, "messages") == ["Who?"]
    path = write(tmp_path / "set.csv", [{"id": "7", "messages": str(SHAREGPT)}])
    with pytest.raises(StimError, match="line 2: a question must be"):
        read_questions(path, "messages")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"question": ["One?", "Two?"], "answer": ["a", "b"]}, ["One?", "Two?"]),
        ({"question": {"0": "One?", "1": "Two?"}, "answer": {"0": "a", "1": "b"}}, ["One?", "Two?"]),
        ({"version": 1, "data": [{"question": "One?"}, {"question": "Two?"}]}, ["One?", "Two?"]),
        ([SHAREGPT, SHAREGPT], ["Who?", "Who?"]),
        ({"messages": SHAREGPT}, None),
        ({"question": ["One?"], "answer": ["a", "b"]}, None),
        ({"a": [{"question": "One?"}], "b": [{"question": "Two?"}, {"question": "Three?"}]}, None),
        ("One?", None),
        (None, None),
    ],
)
def test_a_json_file_is_a_list_of_rows_or_an_object_of_columns(
    tmp_path: Path, content: Any, expected: list[str] | None
) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    if expected is not None:
        assert read_questions(path, None) == expected
        return
    with pytest.raises(StimError, match=r"^set.json( must hold|.*a question must be|: set `column`)"):
        read_questions(path, None)


@pytest.mark.parametrize("name", ["set.jsonl", "set.json", "set.csv", "set.tsv", "set.csv.gz", "set.jsonl.gz"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    for content in (b"", b"\n \n"):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        with pytest.raises(StimError, match=f"{name} has no rows"):
            read_questions(tmp_path / name, None)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("set.csv", "Frage;Antwort\nWo bröselt's?;Hier\n".encode("cp1252"), "line 2 is not in UTF-8"),
        ("set.csv", "question\nWho?\n".encode("utf-16-le"), "not text: it contains zero bytes"),
        ("set.csv", b"PK\x03\x04\0\0xl/workbook.xml", "not text: .*spreadsheet"),
        ("set.json", "é".encode("latin-1"), "set.json .*valid JSON|line 1 is not in UTF-8"),
        ("set.jsonl", b'[{"question": "Who?"}]', "line 1 is a list: .* named .json"),
        ("set.csv.gz", gzip.compress(b"question\nWho?\n" * 1000, mtime=0)[:40], "not a whole gzip file"),
        ("set.jsonl.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "set.jsonl.gz is not a whole gzip file"),
    ],
)
def test_content_of_another_kind_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StimError, match=complaint):
        read_questions(tmp_path / name, None)


def test_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="comes with the extra `datasets`")
    import pyarrow.parquet

    table = pyarrow.table([["a"], ["b"]], names=["question", "question"])
    pyarrow.parquet.write_table(table, tmp_path / "set.parquet")
    with pytest.raises(StimError, match="several columns 'question'"):
        read_questions(tmp_path / "set.parquet", None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", ".jsonl"),
        ("a.b.csv.gz", ".csv"),
        ("a.tsv", ".tsv"),
        ("a.parquet", ".parquet"),
        ("a.parquet.gz", None),
        ("a.txt", None),
        ("a.gz", None),
        ("csv", None),
    ],
)
def test_the_format_is_the_ending_before_gz(name: str, expected: str | None) -> None:
    assert format_of(name) == expected
