"""What the command prints: JSON, lines in colour, and tables. Colours only reach a terminal (see `commands.run`)."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from wcwidth import clip, wcswidth, wrap

from gateway.cli.text import as_json, one_line

MOST_COLUMNS = 120
"""Wider text is hard to read."""
GAP = "  "


def show_json(document: Any) -> None:
    click.echo(as_json(document))


def is_terminal() -> bool:
    return sys.stdout.isatty()


def has_colors() -> bool:
    """Whether colours reach a person."""
    context = click.get_current_context(silent=True)
    return is_terminal() and (context is None or context.color is not False)


def note(text: str) -> None:
    """A remark beside the result, on standard error."""
    click.secho(wrapped(text), dim=True, err=True)


def wrapped(text: str) -> str:
    """Text for standard error: in a terminal wrapped at words, else one line."""
    if not sys.stderr.isatty():
        return text
    columns = min(shutil.get_terminal_size((80, 24)).columns, MOST_COLUMNS)
    return "\n".join(lines_of(text, columns - 1, subsequent_indent="  "))


def lines_of(text: str, columns: int, *, initial_indent: str = "", subsequent_indent: str = "") -> list[str]:
    """The text wrapped at words to so many terminal columns: a wide character takes two, a combining one none."""
    return wrap(
        text, columns, initial_indent=initial_indent, subsequent_indent=subsequent_indent, break_on_hyphens=False
    )


def width() -> int:
    """Columns to write in: those of the terminal; without one, lines are as long as their content."""
    return shutil.get_terminal_size((80, 24)).columns if is_terminal() else 10_000


def columns_of(text: str) -> int:
    """Terminal columns that the text takes, without its colours."""
    return max(0, wcswidth(click.unstyle(text)))


def padded(text: str, columns: int, *, to_right: bool = False) -> str:
    space = " " * max(0, columns - columns_of(text))
    return space + text if to_right else text + space


def cut(text: str, columns: int) -> str:
    """Unstyled text, cut to so many columns."""
    if columns_of(text) <= columns:
        return text
    return f"{clip(text, 0, columns - 1).rstrip()}…"


def show_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), cuts: int | None = None
) -> None:
    """Print rows under their header, aligned; nothing wraps in a terminal.

    Args: header: empty for none; numbers: columns to align at their right; cuts: column to cut where a terminal is
    too narrow, the last one by default.
    """
    lines = [[click.style(title, dim=True) if title else "" for title in header]] if header else []
    lines += [list(row) for row in rows]
    if not lines:
        return
    widths = [max(map(columns_of, column)) for column in zip(*lines, strict=True)]
    flexible = len(widths) - 1 if cuts is None else cuts
    room = width() - sum(widths) - len(GAP) * (len(widths) - 1) + widths[flexible]
    widths[flexible] = min(widths[flexible], max(12, room))
    for line in lines:
        if columns_of(line[flexible]) > widths[flexible]:
            line[flexible] = cut(click.unstyle(line[flexible]), widths[flexible])
        while line and not columns_of(line[-1]):
            line.pop()
        cells = [
            cell if at == len(line) - 1 and at not in numbers else padded(cell, widths[at], to_right=at in numbers)
            for at, cell in enumerate(line)
        ]
        click.echo(GAP.join(cells))


def show_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print `name  value` lines, aligned."""
    show_table((), [(click.style(name, dim=True), value) for name, value in fields if value])


def show_paragraph(sign: str, spans: Sequence[tuple[str, str | None]]) -> None:
    """Print text in several colours behind a sign: in a terminal wrapped at words and indented, else on one line.

    Args: spans: text and colour of each part; None: the terminal's own.
    """
    if not is_terminal():
        styled = "".join(click.style(text, fg=color) if text else "" for text, color in spans)
        click.echo(f"{sign}{styled}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = Table.grid(padding=0)
    columns.add_column(no_wrap=True)
    columns.add_column(overflow="fold")
    text = Text.assemble(*((part, color or "") for part, color in spans))
    columns.add_row(Text.from_ansi(sign), text)
    Console(highlight=False, width=min(width(), MOST_COLUMNS)).print(columns)


def bullet_list(names: Sequence[str], most: int = 8) -> str:
    """`a, b, c`, cut after `most`."""
    shown = ", ".join(one_line(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
