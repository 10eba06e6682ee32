from typing import Any

import pytest

from baker.questions.cells import is_dialogue, question_in

OPENAI = [{"role": "system", "content": "S"}, {"role": "user", "content": " Who? "}, {"role": "user", "content": "I?"}]
SHAREGPT = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me"}]
PARTS = [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Who?"}]}]


@pytest.mark.parametrize(
    "cell",
    [
        " Who?\n",
        OPENAI,
        SHAREGPT,
        PARTS,
        [{"from": "Human", "value": "Who?"}],
        [{"role": "prompter", "text": "Who?"}, {"role": "assistant", "text": "Me"}],
        ["Who?", "Me", "Why?"],
        {"messages": OPENAI},
        {"conversation": SHAREGPT, "id": 7},
        {"role": ["system", "user"], "content": ["S", "Who?"]},
        {"from": ["human", "gpt"], "value": ["Who?", "Me"]},
        "\n\nHuman: Who?\n\nAssistant: Me\n\nHuman: I?\n\nAssistant: You",
        "Human: Who?",
        '[{"role": "user", "content": "Who?"}]',
    ],
)
def test_the_question_is_the_text_or_the_first_user_turn(cell: Any) -> None:
    assert question_in(cell) == "Who?"


@pytest.mark.parametrize(
    "cell", [None, "", "  ", [], [{"role": "assistant", "content": "Me"}], [{"role": "user", "content": None}]]
)
def test_a_cell_without_a_question_gives_an_empty_text(cell: Any) -> None:
    assert question_in(cell) == ""
    assert not is_dialogue(cell)


@pytest.mark.parametrize(
    "cell",
    [
        3,
        True,
        [1, 2],
        [["Who?", "Me"]],
        ["Who?", None],
        [{"u": "Who?"}],
        [{"role": "user", "content": "Who?"}, 5],
        [{"role": "user", "words": "Who?"}],
        {"u": "Who?"},
        {"role": "user", "content": "Who?"},
        "[{'role': 'user', 'content': 'Who?'}]",
    ],
)
def test_other_shapes_are_not_read(cell: Any) -> None:
    assert question_in(cell) is None
    assert not is_dialogue(cell)


@pytest.mark.parametrize("text", ["[1, 2]", "[x]", "[" * 5000 + "]" * 5000, "Human rights: what are they?", "{}", "[]"])
def test_texts_that_only_look_like_dialogues_are_texts(text: str) -> None:
    assert question_in(text) == text


@pytest.mark.parametrize("cell", [OPENAI, SHAREGPT, PARTS, {"messages": OPENAI}])
def test_a_dialogue_names_its_speakers(cell: Any) -> None:
    assert is_dialogue(cell)
    assert not is_dialogue(["Who?", "Me"]) and not is_dialogue("Who?") and not is_dialogue({"data": ["Who?"]})
