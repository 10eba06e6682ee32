"""`bread chat` is chat_with_model.py with the command's server, key and names."""

from collections.abc import Sequence

import pytest

import chat_with_model
from tests.gateway.cli.conftest import URL, Bread


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the chat was started with."""
    given: list[str] = []

    def main(options: Sequence[str]) -> int:
        given[:] = options
        return 7

    monkeypatch.setattr(chat_with_model, "main", main)
    return given


def test_names_are_completed_and_options_passed_on(bread: Bread, arguments: list[str]) -> None:
    bread("init", "hooli")
    code = bread("chat", "yoda@0.5", "--vs", "base", "--temperature", "0", "--system", "-x").code
    assert code == 7
    assert arguments == [
        "--base-url", URL, "--api-key", bread.environment["BREAD_API_KEY"], "--model", "hooli/yoda@0.5",
        "--vs", "fake/base", "--temperature=0.0", "--system=-x",
    ]  # fmt: skip
    bread("chat", "alice/hooli/yoda/3")
    assert arguments[5] == "alice/hooli/yoda/3"


def test_without_a_name_the_newest_bake_answers_or_the_base_model(bread: Bread, arguments: list[str]) -> None:
    bread("chat")
    assert arguments[5] == "fake/base"


def test_without_a_key_it_says_what_to_do(bread: Bread) -> None:
    del bread.environment["BREAD_API_KEY"]
    code, _, err = bread("chat")
    assert (code, "run `bread login`" in err) == (5, True)
