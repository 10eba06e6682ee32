"""Hostile text can't control the terminal, and numbers read well."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli import text
from gateway.cli.text import age, as_json, count, harmless, one_line, seconds, size

TEXTS = st.text(st.characters(codec=None), max_size=40)


@settings(max_examples=50)
@given(TEXTS)
def test_nothing_that_controls_a_terminal_is_left(hostile: str) -> None:
    shown = harmless(hostile)
    assert all(character.isprintable() or character in text.KEPT for character in shown)
    assert not set(shown) & set("\x1b\x07\x08\r\x9b\u202e\u2066\u200f")


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\u202eb", "a\\u202eb"),
        ("two\r\nlines", "two\nlines"),
        ("a\tb", "a   b"),
        ("half\ud800", "half\\ud800"),
        ("a\u00a0b", "a b"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_what_is_dangerous_stays_visible(hostile: str, shown: str) -> None:
    assert harmless(hostile) == shown


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=10), lambda inner: st.dictionaries(st.text(max_size=5), inner)
    )
)
def test_json_keeps_its_meaning_and_is_printable(document: object) -> None:
    shown = as_json(document)
    assert json.loads(shown) == document
    assert all(character.isprintable() or character in text.KEPT for character in shown)


def test_a_line_is_cut() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("abcd", 4) == "abcd"


def test_times_counts_and_sizes_read_well() -> None:
    assert [seconds(value) for value in (0.4, 59.4, 60, 125, 3600, 3780)] == [
        "0 s", "59 s", "1 min", "2 min 5 s", "1 h 0 min", "1 h 3 min",
    ]  # fmt: skip
    assert [age(0, now) for now in (-5, 59, 60, 7200, 5 * 86400)] == [
        "just now", "just now", "1 min ago", "2 h ago", "5 d ago",
    ]  # fmt: skip
    assert (count(1, "version"), count(1200, "version")) == ("1 version", "1,200 versions")
    assert [size(value) for value in (999, 4_700_000, 3e12)] == ["999 B", "4.7 MB", "3.0 TB"]
