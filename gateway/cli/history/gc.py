"""`bread gc`: versions that nothing needs."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.history.commits import styled_id
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.output import show_json, show_table
from gateway.cli.session import Session, path_of
from gateway.cli.text import age, count, moment, one_line, size


@click.command()
@repo_option
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--prune", is_flag=True, help="Remove it for good now, and empty the bin. Nothing brings that back.")
@click.option("--yes", is_flag=True, help="Don't ask before --prune.")
@json_option
@pass_session
def gc(session: Session, /, repo: str | None, dry_run: bool, prune: bool, yes: bool, as_json: bool) -> None:
    """Take versions that nothing needs to the bin.

    These are versions that no name, recent operation, job or other version needs. They stay in the bin for 7 days, from
    where bread undo brings them back.
    """
    repo = session.repo(repo)
    path = path_of(repo, "gc")
    before = session.client.get(path)
    if dry_run:
        show_json(before) if as_json else _show(before)
        return
    if prune and not yes:
        if not sys.stdin.isatty():
            raise CliError("--prune can't be undone: add --yes", Exit.USAGE)
        _show(before)
        click.confirm(f"Remove all of this from {repo} for good? It can't be undone", abort=True, err=True)
    answer = session.client.post(path, {"prune": prune})
    if as_json:
        show_json(answer)
    elif prune:
        click.echo(f"Freed {size(answer['freed_bytes'])}.")
    else:
        moved = len(before["unreachable"]) - len(answer["unreachable"])
        click.echo(f"{count(moved, 'version')} taken to the bin.")
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    rows = [
        (styled_id(version["commit"]), "needed by nothing", size(version["bytes"]), age(version["since"]))
        for version in answer["unreachable"]
    ]
    rows += [
        (
            f"{one_line(item['kind'])} {one_line(item['name'])}",
            "in the bin",
            size(item["bytes"]),
            f"until {moment(item['until'])}",
        )
        for item in answer["bin"]
    ]
    if rows:
        show_table((), rows, numbers=(2,), cuts=0)
    else:
        click.echo("Nothing to remove.")
