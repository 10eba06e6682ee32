"""`bread tree`: which bake came from which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from gateway.cli.completion import complete_repo
from gateway.cli.options import json_option, pass_session
from gateway.cli.output import show_json
from gateway.cli.session import Session, path_of
from gateway.cli.text import one_line

COLORS = {"complete": "green", "failed": "red", "running": "yellow", "pending": "yellow"}


@click.command()
@click.argument("repo", required=False, shell_complete=complete_repo)
@json_option
@pass_session
def tree(session: Session, /, repo: str | None, as_json: bool) -> None:
    """Show which bake came from which."""
    repo = session.repo(repo)
    answer = session.client.get(path_of(repo, "tree"))
    if as_json:
        show_json(answer)
        return
    click.echo(click.style(one_line(answer["base_model"]), dim=True))
    children = children_of(answer)
    for line in lines_of(answer["bakes"], children):
        click.echo(line)


def children_of(answer: dict[str, Any]) -> dict[str | None, list[str]]:
    """Bake -> those that began from it; None: from the base model, or from a bake of another repo."""
    parent_of: dict[str, str] = {}
    for source_kind, source, kind, needed in answer["edges"]:
        if source_kind == kind == "bake":
            parent_of.setdefault(source, needed)  # a merge stands under its first parent
    children: dict[str | None, list[str]] = {}
    for name in answer["bakes"]:
        children.setdefault(parent_of.get(name), []).append(name)
    return children


def lines_of(bakes: dict[str, Any], children: dict[str | None, list[str]]) -> Iterator[str]:
    """A line for each bake, under the one that it began from. Lineages may be thousands of bakes deep."""
    stack = [*_below(children, None, "")]
    while stack:
        name, parent, indent, is_last = stack.pop()
        bake = bakes[name]
        details = [f"version {bake['checkpoints'][0]}"] if bake["checkpoints"] else []
        if bake["status"] != "complete":
            details.append(click.style(bake["status"], fg=COLORS.get(bake["status"])))
        if bake.get("deleted"):
            details.append(click.style("deleted", fg="red"))
        if parent is None and bake.get("parent"):
            details.append(click.style(f"from {one_line(bake['parent'])}", dim=True))
        if merged := merged_into(bake):
            details.append(click.style(merged, fg="cyan"))
        branch = click.style(f"{indent}{'└─' if is_last else '├─'} ", dim=True)
        yield f"{branch}{one_line(name)}  {'  '.join(details)}".rstrip()
        stack += _below(children, name, f"{indent}{'   ' if is_last else '│  '}")


def _below(
    children: dict[str | None, list[str]], parent: str | None, indent: str
) -> Iterator[tuple[str, str | None, str, bool]]:
    """The parent's children, last one first: name, parent, indent, and whether it is the last."""
    for number, name in enumerate(reversed(children.get(parent, []))):
        yield name, parent, indent, number == 0


VERBS = {"merge": "merges", "cherry-pick": "picks", "revert": "takes out"}


def merged_into(bake: dict[str, Any]) -> str:
    """`merges json` beside the bake that a merge began from; empty for other bakes."""
    merge = (bake.get("config") or {}).get("merge") or {}
    verb = VERBS.get(str(merge.get("kind", "merge")).replace("_", "-"))
    parents = ["/".join(str(name).split("/")[2:]) for name in (bake.get("parents") or [])[1:]]
    others = parents or merge.get("others") or []
    return f"{verb} {', '.join(one_line(str(other), 40) for other in others)}" if verb and others else ""
