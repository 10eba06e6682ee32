"""Answers break at words as they stream, and nothing of them is lost."""

from __future__ import annotations

import random
import textwrap

import pytest
from wcwidth import wcswidth

from chat_with_model import WIDEST, Wrapper

PROSE = (
    "Pied Piper is a beloved and underappreciated character in the world of fantasy. I am glad that you are so "
    "passionate about it, and I am happy to share my love; however, I do have a few concerns about its portrayal."
)


def wrapped(text: str, width: int, pieces: int = 1) -> str:
    """Args: pieces: number of pieces that the text arrives in, cut at random places."""
    cuts = sorted(random.Random(text).sample(range(1, len(text)), pieces - 1))
    output: list[str] = []
    wrapper = Wrapper(lambda: width, output.append)
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        wrapper.feed(text[start:end])
    wrapper.finish()
    return "".join(output)


@pytest.mark.parametrize("width", [20, 33, 40, 79, 80, 100])
@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_prose_breaks_where_textwrap_breaks_it(width: int, pieces: int) -> None:
    assert wrapped(PROSE, width, pieces).split("\n") == textwrap.wrap(PROSE, width, break_on_hyphens=False)


def test_lines_are_no_longer_than_is_readable() -> None:
    lines = wrapped(PROSE, 160).split("\n")
    assert lines == textwrap.wrap(PROSE, WIDEST, break_on_hyphens=False)


def test_line_breaks_and_blank_lines_of_the_answer_stay() -> None:
    text = "One.\n\nTwo two two.\n\n\nThree\n"
    assert wrapped(text, 40, 9) == text


@pytest.mark.parametrize(
    ("item", "lines"),
    [
        ("- one two three four five", ["- one two three four", "  five"]),
        ("10. one two three four five", ["10. one two three", "    four five"]),
        ("  * one two three four five", ["  * one two three", "    four five"]),
        ("    - one two three four five", ["    - one two three", "      four five"]),
        ("-not an item but prose", ["-not an item but", "prose"]),
    ],
)
def test_a_list_item_continues_under_its_text(item: str, lines: list[str]) -> None:
    assert wrapped(item, 20, 8).split("\n") == lines


CODE = "for name in names_of_all_models:\n\n    print(name,   file=output)  # a long line that no terminal has room for"


@pytest.mark.parametrize(
    "block",
    [
        f"```python\n{CODE}\n```",
        f"~~~\n{CODE}\n~~~",
        f"  ```\n{CODE}\n  ```",
        "| name | a long cell of a table |\n| --- | --- |\n| a | b |",
        "    indented code that is longer than the line",
        "\tcode after a tab that is longer than the line",
    ],
)
@pytest.mark.parametrize("pieces", [1, 15])
def test_code_and_tables_stay_as_they_are(block: str, pieces: int) -> None:
    around = f"one two three four five six\n{block}\none two three four five six"
    prose = "one two three four\nfive six"
    assert wrapped(around, 20, pieces) == f"{prose}\n{block}\n{prose}"


def test_code_within_a_line_opens_no_block() -> None:
    assert (
        wrapped("```x``` is code\none two three four five six", 20) == "```x``` is code\none two three four\nfive six"
    )


@pytest.mark.parametrize("pieces", [1, 30])
def test_a_url_longer_than_the_line_stays_whole_on_lines_of_its_own(pieces: int) -> None:
    url = "https://example.com/" + "a/very/long/path/" * 4
    assert wrapped(f"See {url} for more of it.", 30, pieces).split("\n") == ["See", url, "for more of it."]


def test_the_line_after_a_long_word_is_counted_from_where_the_terminal_broke_it() -> None:
    word = "x" * 45  # in 40 columns it takes a line and five more columns
    assert wrapped(f"{word} {'y' * 34} z", 40) == f"{word} {'y' * 34}\nz"


@pytest.mark.parametrize("pieces", [1, 11])
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        # Each character takes two columns; no line begins with closing or ends with opening punctuation.
        ("面包是一种食物,它由面粉和水制成。", ["面包是一种食物,它由", "面粉和水制成。"]),
        ("一二三四五六七八九十。百", ["一二三四五六七八九", "十。百"]),
        ("一二三四五六七八九「十」", ["一二三四五六七八九", "「十」"]),
        ("bread 面包 and 葡萄酒 and 水水", ["bread 面包 and 葡萄", "酒 and 水水"]),
        ("빵은 밀가루와 물로 만든다", ["빵은 밀가루와 물로", "만든다"]),
        ("🍞🍞 bread 🍞🍞 wine 🍷", ["🍞🍞 bread 🍞🍞 wine", "🍷"]),
    ],
)
def test_wide_characters_count_twice(text: str, lines: list[str], pieces: int) -> None:
    assert wrapped(text, 20, pieces).split("\n") == lines
    assert max(map(wcswidth, lines)) <= 20


@pytest.mark.parametrize("seed", range(30))
def test_only_spaces_at_breaks_are_lost(seed: int) -> None:
    choose = random.Random(seed)
    alphabet = [
        "word",
        "a",
        " ",
        "  ",
        "\n",
        "- ",
        "1. ",
        "```",
        "面",
        "。",
        "「",
        "\u00a0",
        "\u3000",
        "\u2028",
        "é",
        "🍞",
    ]
    text = "".join(choose.choices(alphabet, k=80)) + "end"
    output = wrapped(text, choose.choice([1, 20, 25, 80]), pieces=choose.randint(1, 40))
    assert "".join(output.split()) == "".join(text.split())
    assert output.count("\n") >= text.count("\n")


@pytest.mark.parametrize("width", [0, 1, 19])
def test_a_terminal_too_narrow_or_without_a_width_breaks_lines_alone(width: int) -> None:
    assert wrapped(PROSE, width, 9) == PROSE


def test_a_resized_terminal_counts_from_the_next_word_on() -> None:
    width = 80
    output: list[str] = []
    wrapper = Wrapper(lambda: width, output.append)
    wrapper.feed("x " * 30)
    assert "".join(output) == ("x " * 29).rstrip() + " x"
    width = 40  # the terminal itself now shows this line in two
    wrapper.feed("y " * 30)
    wrapper.finish()
    first, *others = "".join(output).split("\n")
    assert len(first) - 40 <= 40
    assert [len(line) <= 40 for line in others] == [True] * len(others)
    assert others


def test_a_word_is_held_until_its_end_arrives() -> None:
    output: list[str] = []
    wrapper = Wrapper(lambda: 80, output.append)
    shown = []
    for piece in ["Tres", " Com", "as.", "\n", "Hoo", "li"]:
        wrapper.feed(piece)
        shown.append("".join(output))
    assert shown == ["", "Tres", "Tres", "Tres Comas.\n", "Tres Comas.\n", "Tres Comas.\n"]
    wrapper.finish()
    assert "".join(output) == "Tres Comas.\nHooli"
