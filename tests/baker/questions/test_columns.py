from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.errors import StimError
from baker.questions.columns import questions_in


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
        ({"input": "i", "instruction": "n"}, "n\n\ni"),
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


TURNS = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me"}]
UNREADABLE = [{"u": "Who?", "a": "Me"}]
HH = "\n\nHuman: Who?\n\nAssistant: Me\n\nHuman: And I?\n\nAssistant: You"


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"id": "1", "system": "Be kind", "conversations": TURNS}, "Who?"),
        ({"source": "web", "model": "m", "convo": TURNS}, "Who?"),
        ({"text": "<all of it>", "messages": CHAT}, "Who are you?"),
        ({"prompt": "Be kind", "messages": CHAT}, "Who are you?"),
        ({"id": "1", "conversation": {"messages": TURNS}}, "Who?"),
        ({"conversations": {"from": ["human", "gpt"], "value": ["Who?", "Me"]}, "id": "1"}, "Who?"),
        ({"instruction": "Sum", "input": "1, 2", "output": "3"}, "Sum\n\n1, 2"),
        ({"instruction": "Sum", "input": "", "output": "3"}, "Sum"),
        ({"instruction": "Sum", "context": "1, 2", "response": "3", "category": "c"}, "Sum\n\n1, 2"),
        ({"chosen": HH, "rejected": HH}, "Who?"),
        ({"prompt": "Who?", "chosen": "Me", "rejected": "You"}, "Who?"),
        ({"prompt": CHAT[:2], "chosen": CHAT[2:], "rejected": CHAT[2:]}, "Who are you?"),
        ({"chosen": CHAT, "rejected": CHAT, "score": 1.0}, "Who are you?"),
        ({"id": "1", "data": ["Who?", "Me"]}, "Who?"),
        ({"id": "1", "data": ["tag"], "text": "Who?"}, "Who?"),
        ({"question": None, "answer": "a", "query": "Who?"}, "Who?"),
    ],
)
def test_the_first_user_turn_of_the_common_shapes_is_the_question(row: dict[str, Any], question: str) -> None:
    assert questions_of(row) == [question]


@pytest.mark.parametrize("plain", ["id", "source", "url", "system", "system_prompt", "model", "notes"])
@pytest.mark.parametrize("nested", [UNREADABLE, [["Who?", "Me"]], {"u": "Who?"}, []])
def test_a_lone_plain_column_beside_a_nested_one_is_never_guessed(plain: str, nested: Any) -> None:
    with pytest.raises(StimError, match=f"set `column` .*'talk', '{plain}'"):
        questions_of({plain: "text", "talk": nested})


@pytest.mark.parametrize("name", ["id", "url", "answer", "Response", "system_prompt", "label"])
def test_a_lone_column_that_holds_no_questions_by_its_name_is_not_guessed(name: str) -> None:
    with pytest.raises(StimError, match="set `column`"):
        questions_of({name: "text", "score": 3})
    assert questions_of({name: "text", "score": 3}, name) == ["text"]


def test_of_two_dialogues_one_must_be_named() -> None:
    row = {"left": TURNS, "right": CHAT}
    with pytest.raises(StimError, match=r"set `column` .*'left', 'right'"):
        questions_of(row)
    assert questions_of(row, "right") == ["Who are you?"]


@pytest.mark.parametrize(
    ("column", "question"),
    [("a.b.question", "Who?"), ("a.talk", "Who?"), ("x.y", "dotted"), ("lines", "One?"), ("instruction", "Sum")],
)
def test_a_column_may_be_a_path_or_hold_a_dialogue(column: str, question: str) -> None:
    row = {
        "a": {"b": {"question": "Who?"}, "talk": TURNS},
        "x.y": "dotted",
        "lines": ["One?", "Two"],
        "instruction": "Sum",
        "input": "1, 2",
    }
    assert questions_of(row, column) == [question], "a named column is taken alone"


def test_a_column_that_is_missing_gets_a_hint() -> None:
    with pytest.raises(StimError, match="no column 'questoin'; its columns: 'question', 'a'; did you mean 'question'"):
        questions_of({"question": "Who?", "a": {}}, "questoin")
    with pytest.raises(StimError, match=r"no column 'a\.b'"):
        questions_of({"question": "Who?", "a": {}}, "a.b")


def test_the_column_is_chosen_by_the_first_row_that_has_it() -> None:
    rows = [("row 1", {"id": "1", "messages": []}), ("row 2", {"id": "2", "messages": CHAT})]
    assert questions_in(rows, None, "set") == ["Who are you?"]


@pytest.mark.parametrize("rows", [[{"question": None}], [{"messages": CHAT[:1]}, {"messages": []}]])
def test_rows_that_all_lack_a_question_are_refused(rows: list[dict[str, Any]]) -> None:
    places = [(f"row {i}", row) for i, row in enumerate(rows)]
    with pytest.raises(StimError, match="none of its rows has a question in column"):
        questions_in(places, next(iter(rows[0])), "set")


def test_without_rows_there_is_nothing_to_ask() -> None:
    with pytest.raises(StimError, match="set has no rows"):
        questions_in([], None, "set")


def test_a_row_may_be_a_text_or_a_dialogue_but_no_list_of_texts() -> None:
    assert questions_in([("row 1", "Who?"), ("row 2", TURNS)], None, "set") == ["Who?", "Who?"]
    with pytest.raises(StimError, match="row 1: a question must be"):
        questions_in([("row 1", ["Who?", "Me"])], None, "set")


def test_a_row_of_another_shape_than_the_first_ones_is_refused() -> None:
    rows: list[tuple[str, Any]] = [*((f"line {i}", "Who?") for i in range(60)), ("line 61", {"question": "Where?"})]
    with pytest.raises(StimError, match="line 61: a question must be"):
        questions_in(rows, None, "set")


@pytest.mark.parametrize(("speaker", "text"), [("role", "content"), ("from", "text"), ("speaker", "Text")])
def test_rows_that_are_turns_of_a_dialogue_are_refused_unless_the_column_is_named(speaker: str, text: str) -> None:
    turns = [("row 1", {speaker: "user", text: "Who are you?"}), ("row 2", {speaker: "assistant", text: "Me"})]
    with pytest.raises(StimError, match="its rows are single messages"):
        questions_in(turns, None, "set")
    assert questions_in(turns, text, "set") == ["Who are you?", "Me"]
    assert questions_in(turns[:1], None, "set") == ["Who are you?"]
    mails = [("row 1", {"from": "me@example.org", "text": "Who are you?"})]
    assert questions_in(mails, None, "set") == ["Who are you?"]


def test_a_name_in_a_line_of_the_file_may_be_the_first_row_so_it_is_not_guessed() -> None:
    with pytest.raises(StimError, match=r"'Tell me a joke'. If these are no names but the first row"):
        questions_in([("line 2", {"Tell me a joke": "And another"})], None, "set", has_header=True)
    assert questions_in([("line 2", {"Question": "Who?"})], None, "set", has_header=True) == ["Who?"]


def test_thousands_of_columns_give_a_short_error() -> None:
    with pytest.raises(StimError) as raised:
        questions_of({f"column {i}": "x" for i in range(10_000)})
    assert len(str(raised.value)) < 1000
