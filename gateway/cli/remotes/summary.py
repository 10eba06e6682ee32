"""What a push, fetch, pull or clone did, as lines in git's form or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from gateway.cli.output import show_json, show_table
from gateway.cli.remotes.copying import Copied, Move, Node, is_ancestor
from gateway.cli.text import count, one_line, size

SHORT = 7


def show(
    header: str,
    url: str,
    moves: Iterable[tuple[Move, str]],
    copied: Copied,
    *,
    as_json: bool,
    history: Mapping[str, Node],
    notes: Iterable[str] = (),
) -> None:
    """Args: header: `To` or `From`; moves: each with the name at the other end; history: of the new commits."""
    moved = list(moves)
    if as_json:
        show_json(document(url, moved, copied, notes))
        return
    click.echo(f"{header} {one_line(url)}")
    rows = [(_range(move, history), f"{one_line(move.name)} -> {one_line(there)}") for move, there in moved]
    if rows:
        show_table((), [(f" {mark}", what) for mark, what in rows])
    else:
        click.echo(" = everything is up to date")
    if copied.commits:
        click.echo(f" {count(copied.commits, 'commit')}, {count(copied.adapters, 'adapter')}, {size(copied.size)}")
    if copied.without_recipe:
        click.echo(f" {count(copied.without_recipe, 'commit')} without a recipe: it is not kept there any more")
    for note in notes:
        click.echo(f" {note}")


def document(url: str, moves: Iterable[tuple[Move, str]], copied: Copied, notes: Iterable[str]) -> dict[str, Any]:
    return {
        "url": url,
        "moves": [
            {
                "name": move.name,
                "to": there,
                "kind": move.ref.kind,
                "before": move.before,
                "after": move.ref.commit,
            }
            for move, there in moves
        ],
        "commits": copied.commits,
        "adapters": copied.adapters,
        "bytes": copied.size,
        "notes": list(notes),
    }


def _range(move: Move, history: Mapping[str, Node]) -> str:
    after = move.ref.commit[:SHORT]
    if move.before is None:
        return f"* [new {move.ref.kind}]"
    before = move.before[:SHORT]
    if is_ancestor(history, move.before, move.ref.commit):
        return f"  {before}..{after}"
    return click.style(f"+ {before}...{after} (forced)", fg="yellow")
