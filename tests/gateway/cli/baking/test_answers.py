"""Answers side by side, and below each other where there is no room."""

import json

import httpx
import pytest
from wcwidth import wcswidth

from gateway.cli.baking import answers
from gateway.cli.client import Client
from gateway.cli.servers import Server


def test_each_model_answers_each_question() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        text = f"{body['model']} on {body['messages'][0]['content']}\x1b[2J"
        return httpx.Response(200, json={"choices": [{"message": {"content": text}, "finish_reason": "length"}]})

    client = Client(Server("http://gateway.local", "k"), transport=httpx.MockTransport(answer))
    assert answers.ask_all(client, ["a", "b"], ["1", "2"]) == [
        ["a on 1\\x1b[2J…", "b on 1\\x1b[2J…"],
        ["a on 2\\x1b[2J…", "b on 2\\x1b[2J…"],
    ]


def test_two_answers_share_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    answers.show(["base", "hooli/yoda"], ["Who?"], [["I am a model. " * 6, "Yoda I am."]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("│")[1].strip() if "│" in line else line for line in lines] == [
        "", "  Who?", "hooli/yoda", "Yoda I am.", "",
    ]  # fmt: skip
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("letter", ["日", "e\u0301", "👩‍🚀"], ids=["wide", "combining", "joined emoji"])
def test_columns_are_those_of_the_terminal(letter: str, capsys: pytest.CaptureFixture[str]) -> None:
    answers.show(["base", "hooli/yoda"], ["Who?"], [[letter * 80, f"{letter}{letter} " * 20]])
    lines = capsys.readouterr().out.splitlines()[3:]
    assert len({wcswidth(line.partition("│")[0]) for line in lines}) == 1, "the bar stands in one column"
    assert all(wcswidth(line) <= 100 for line in lines)
    assert "".join(line.partition("│")[0].strip() for line in lines) == letter * 80


def test_many_models_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    answers.show(["a", "b", "c", "d"], ["Who?"], [["1", "2", "3", "4"]])
    assert capsys.readouterr().out.split() == ["Who?", "a", "1", "b", "2", "c", "3", "d", "4"]
