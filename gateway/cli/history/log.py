"""`bread log`: the versions of a repo, newest first, with what each one measured."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.history.commits import Commit, digits_for, evaluation_of, message_of, refs_of, styled_id
from gateway.cli.history.graph import Graph
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import GAP, columns_of, cut, is_terminal, note, padded, show_json, width
from gateway.cli.session import Session, path_of
from gateway.cli.text import age, one_line

PAGE = 1000
"""Commits in one request: the most that the server gives."""
WIDEST_LEFT = 100
"""Columns up to which messages push the numbers to the right where there is no terminal."""
SHORTEST_MESSAGE = 16
BASE = "base"
"""Id of the base model in the graph."""

Row = tuple[str, Commit | None]
"""A row's part of the graph, and the commit that it shows; None for a row of edges."""


@click.command()
@version_argument("start", metavar="[REPO|REF]", required=False)
@repo_option
@click.option("--graph", is_flag=True, help="Draw how the versions came from each other.")
@click.option("--oneline", is_flag=True, help="Only id, names and message.")
@click.option("--all", "includes_all", is_flag=True, help="Also the checkpoints on the way of each bake.")
@click.option("-n", "number", type=click.IntRange(1), metavar="N", default=100, help="At most N versions [100].")
@json_option
@pass_session
def log(
    session: Session,
    /,
    start: str | None,
    repo: str | None,
    graph: bool,
    oneline: bool,
    includes_all: bool,
    number: int,
    as_json: bool,
) -> None:
    """Show the history: versions, newest first.

    For a repo: all that its names reach. For a REF: the version and those that it came from.
    """
    repo, rev = session.repo_or_version(start, repo)
    answer = fetch(session, repo, rev, number, includes_all=includes_all)
    if as_json:
        show_json(answer)
        return
    commits = answer["commits"]
    if not commits:
        note(f"{repo} has no version yet: bread bake makes one.")
        return
    rows: list[Row] = [("", commit) for commit in commits]
    if graph:
        base = "" if answer.get("next") else session.client.get(path_of(repo))["base_model"]
        rows = drawn(commits, one_line(base))
    _show(rows, oneline=oneline)
    if answer.get("next"):
        note(f"There are more: bread log -n {number * 2}")


def fetch(session: Session, repo: str, rev: str | None, number: int, *, includes_all: bool = False) -> dict[str, Any]:
    """The answer for the newest `number` commits, put together from as many pages as it takes."""
    commits: list[Commit] = []
    answer: dict[str, Any] = {}
    while len(commits) < number and (not commits or answer.get("next")):
        limit = min(PAGE, number - len(commits))
        answer = session.client.get(
            path_of(repo, "commits"), ref=rev, all=includes_all, limit=limit, after=answer.get("next")
        )
        commits += answer["commits"]
        if not answer["commits"]:
            break
    return {**answer, "commits": commits}


def drawn(commits: list[Commit], base: str) -> list[Row]:
    """The graph's rows. Args: base: name of the base model, which all first versions came from; empty: left out."""
    graph = Graph()
    rows: list[Row] = []
    for commit in commits:
        drawing = graph.add(commit["id"], [parent["id"] for parent in commit["parents"]] or [BASE])
        rows += [(above, None) for above in drawing.above]
        columns = max(len(drawing.node), *(len(row) for row in drawing.edges if "\\" in row), 0)
        rows.append((f"{drawing.node:{columns}} ", commit))
        rows += [(edge, None) for edge in drawing.edges]
    if base:
        rows.append((f"{graph.add(BASE, []).node} {click.style(base, dim=True)}", None))
    return rows


def _show(rows: list[Row], *, oneline: bool) -> None:
    digits = digits_for([commit["id"] for _, commit in rows if commit is not None])
    lines = [_fitted(*_parts(picture, commit, digits, oneline=oneline)) for picture, commit in rows]
    right = max((columns_of(end) for _, _, end in lines), default=0)
    room = (width() if is_terminal() else WIDEST_LEFT + right) - right - 2
    left = min(room, max(columns_of(begin) + columns_of(message) for begin, message, _ in lines))
    for begin, message, end in lines:
        space = max(SHORTEST_MESSAGE, left - columns_of(begin)) if is_terminal() else columns_of(message)
        line = f"{begin}{cut(message, space)}"
        click.echo((f"{padded(line, left)}  {end}" if end else line).rstrip())


def _fitted(begin: str, message: str, parts: list[str]) -> tuple[str, str, str]:
    """The parts at the right as one text. Where a terminal is too narrow for all, the last ones are left out."""
    room = width() - columns_of(begin) - min(SHORTEST_MESSAGE, columns_of(message)) - len(GAP)
    while parts and columns_of(GAP.join(parts)) > room:
        parts = parts[:-1]
    return begin, message, click.style(GAP.join(parts), dim=True) if parts else ""


def _parts(picture: str, commit: Commit | None, digits: int, *, oneline: bool) -> tuple[str, str, list[str]]:
    """What is never cut, the message, and what stands at the right."""
    if commit is None:
        return picture, "", []
    begin = " ".join(filter(None, (styled_id(commit["id"], digits), refs_of(commit))))
    if oneline:
        return f"{picture}{begin} ", message_of(commit), []
    gone = "" if commit.get("model") else "no weights"
    parts = [*evaluation_of(commit).split(GAP), gone, age(commit["created"])]
    return f"{picture}{begin} ", message_of(commit), list(filter(None, parts))


def summary(commit: Commit) -> str:
    """One commit on one line, for other verbs: id, names, message."""
    return " ".join(filter(None, (styled_id(commit["id"]), refs_of(commit), one_line(message_of(commit)))))
