"""Tables are aligned, and fit a terminal."""

import click
import pytest

from gateway.cli import output


def test_a_table_is_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(click.style("日本", bold=True), "1", "end"), ("abc", "22", "")]
    output.show_table(("NAME", "N", ""), rows, numbers=(1,))
    assert capsys.readouterr().out.splitlines() == ["NAME   N", "日本   1  end", "abc   22"]


def test_a_terminal_gets_no_line_that_wraps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "width", lambda: 30)
    output.show_table((), [("name", "a long text that has no room in the line", "x")], cuts=1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "name  a long text that has…  x"
    assert output.columns_of(line) <= 30


def test_nothing_is_printed_for_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table((), [])
    assert capsys.readouterr().out == ""


def test_text_is_cut_by_columns() -> None:
    assert output.cut("日本語", 6) == "日本語"
    assert output.cut("日本語", 5) == "日本…"
    assert output.bullet_list(["a", "b", "c"], most=2) == "a, b and 1 more"
