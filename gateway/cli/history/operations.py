"""`bread undo`, `bread redo` and `bread op log`: who changed what, and taking it back."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.output import note, show_json, show_table
from gateway.cli.session import Session, path_of
from gateway.cli.text import age, one_line
from gateway.cli.text import as_json as json_text


@click.command()
@click.argument("operation", type=int, metavar="[OP]", required=False)
@repo_option
@json_option
@pass_session
def undo(session: Session, /, operation: int | None, repo: str | None, as_json: bool) -> None:
    """Take back the last change; again: the one before it.

    Names, prompts, targets and settings get the values that they had, and what was deleted comes back from the bin.
    With OP, a number of bread op log, all changes since then and itself.
    """
    _step(session, "undo", operation, repo, "bread redo brings it back.", as_json=as_json)


@click.command()
@click.argument("operation", type=int, metavar="[OP]", required=False)
@repo_option
@json_option
@pass_session
def redo(session: Session, /, operation: int | None, repo: str | None, as_json: bool) -> None:
    """Bring back what the last undo took back."""
    _step(session, "redo", operation, repo, "bread undo takes it back again.", as_json=as_json)


def _step(session: Session, verb: str, number: int | None, repo: str | None, advice: str, *, as_json: bool) -> None:
    body = {} if number is None else {"operation": number}
    answer = session.client.post(path_of(session.repo(repo), verb), body)
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{one_line(answer['summary'])}")
        note(advice)


@click.group(invoke_without_command=True)
@click.pass_context
def op(context: click.Context) -> None:
    """Show who changed what: bread op log."""
    if context.invoked_subcommand is None:
        context.invoke(log)


@op.command()
@repo_option
@click.option("-n", "number", type=click.IntRange(1, 1000), metavar="N", default=30, help="At most N operations [30].")
@json_option
@pass_session
def log(session: Session, /, repo: str | None = None, number: int = 30, as_json: bool = False) -> None:
    """Show the changes of the repo, newest first."""
    answer = session.client.get(path_of(session.repo(repo), "operations"), limit=number)
    if as_json:
        show_json(answer)
        return
    rows = []
    for operation in answer["operations"]:
        mark = "< undo" if operation["id"] == answer["undo"] else "< redo" if operation["id"] == answer["redo"] else ""
        lasting = "" if operation["undoable"] else "can't be undone"
        rows.append(
            (
                click.style(str(operation["id"]), fg="yellow"),
                click.style(age(operation["created"]), dim=True),
                click.style(one_line(operation["by"]), dim=True),
                one_line(operation["summary"]),
                mark or lasting,
            )
        )
    show_table((), rows, numbers=(0,), cuts=3)
    if not rows:
        note("Nothing was changed yet.")


@op.command()
@click.argument("number", type=int)
@repo_option
@json_option
@pass_session
def show(session: Session, /, number: int, repo: str | None, as_json: bool) -> None:
    """Show one change: the values before and after."""
    answer = session.client.get(path_of(session.repo(repo), "operations"), limit=1, before=number + 1)
    operation = next((each for each in answer["operations"] if each["id"] == number), None)
    if operation is None:
        raise CliError(f"there is no operation {number}: bread op log lists them", Exit.NOT_FOUND)
    if as_json:
        show_json(operation)
        return
    click.echo(
        f"{number}  {one_line(operation['summary'])}  by {one_line(operation['by'])}, {age(operation['created'])}"
    )
    for change in operation["changes"]:
        click.secho(f"\n{change['kind']} {one_line(change['name'])}", bold=True)
        _show_value("-", change["before"], "red")
        _show_value("+", change["after"], "green")


def _show_value(sign: str, value: Any, color: str) -> None:
    if value is not None:
        for line in json_text(value).splitlines():
            click.secho(f"{sign} {line}", fg=color)
