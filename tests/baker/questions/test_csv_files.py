import io
from typing import Any

import pytest

from baker.errors import StimError
from baker.questions.csv_files import csv_rows


def rows_of(text: str, delimiter: str | None = None) -> list[dict[str, Any]]:
    return [row for _, row in csv_rows(io.StringIO(text, newline=""), "set.csv", delimiter)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_common_delimiter_and_line_end_is_found(delimiter: str, end: str) -> None:
    lines = ["question|answer", "Who?|Me", '"Where; or, when"|Here', '"Two\nlines"|x']
    text = end.join(line.replace("|", delimiter) for line in lines)
    assert rows_of(text) == [
        {"question": "Who?", "answer": "Me"},
        {"question": "Where; or, when", "answer": "Here"},
        {"question": "Two\nlines", "answer": "x"},
    ]


@pytest.mark.parametrize("sign", ["sep=;", '"sep=;"'])
def test_excel_s_line_names_the_delimiter_and_is_no_row(sign: str) -> None:
    assert rows_of(f"{sign}\r\nquestion,or;answer\r\nA,b;c\r\n") == [{"question,or": "A,b", "answer": "c"}]
    with pytest.raises(StimError, match=r"set.csv, line 4: 1 cells under a header of 2: .*a semicolon"):
        rows_of(f"{sign}\na;b\n1;2\n3\n")


def test_a_file_with_one_column_may_hold_any_sign_but_the_comma() -> None:
    assert rows_of("question\nWho; me?\nA|b\n") == [{"question": "Who; me?"}, {"question": "A|b"}]
    assert rows_of('question\n"Who, me?"\n') == [{"question": "Who, me?"}]
    with pytest.raises(StimError, match=r"line 2: 2 cells under a header of 1: .*a comma"):
        rows_of("question\nWho, me?\n")


def test_a_file_that_two_delimiters_fit_is_refused() -> None:
    with pytest.raises(StimError, match=r"by a comma or by a semicolon: .*sep=,"):
        rows_of("a,b;c\n1,2;3\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("question,answer,question\na,b,c\n", "header has 'question' more than once"),
        ("a;a;b;b\n1;2;3;4\n", "header has 'a', 'b' more than once"),
        ("frage;antwort\nWo?;Hier\nWo; was?;Da\n", "line 3: 3 cells under a header of 2: .*a semicolon"),
        ('question\n"Who?\n', "can't be read after line 2"),
        ('question\n"Who?"x\n', "can't be read after line 2"),
    ],
)
def test_what_has_two_readings_is_refused_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(StimError, match=complaint):
        rows_of(text)


def test_columns_without_a_name_and_empty_lines_are_left_out() -> None:
    assert rows_of("\n\n,question,,\n0,Who?,,\n,,,\n1,Why?,,\n") == [{"question": "Who?"}, {"question": "Why?"}]


def test_a_long_cell_is_read_whole() -> None:
    text = "x" * 1_000_000
    assert rows_of(f'question,answer\n"{text}",a\n{text},b\n') == [
        {"question": text, "answer": "a"},
        {"question": text, "answer": "b"},
    ]


def test_a_delimiter_that_is_given_is_not_looked_for() -> None:
    assert rows_of("question\tanswer\nA,b\tc\n", "\t") == [{"question": "A,b", "answer": "c"}]


def test_a_sample_that_ends_within_a_record_is_enough() -> None:
    row = '"' + "word, " * 5000 + '";answer'
    assert len(rows_of("question;answer\n" + f"{row}\n" * 5)) == 5


@pytest.mark.parametrize("text", ["", "\n", "question,answer\n"])
def test_a_file_without_rows_has_none(text: str) -> None:
    assert rows_of(text) == []
