"""`bread probe`: named lists of questions that versions are compared on."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.files import questions_of
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.output import show_json, show_table
from gateway.cli.session import Session, path_of
from gateway.cli.text import count, one_line


@click.group()
def probe() -> None:
    """Keep lists of questions to compare versions on.

    `bread diff A B --probe NAME` uses one.
    """


@probe.command("list")
@repo_option
@json_option
@pass_session
def list_probes(session: Session, /, repo: str | None, as_json: bool) -> None:
    """List the probes of the repo."""
    answer = session.client.get(path_of(session.repo(repo), "probes"))
    if as_json:
        show_json(answer)
    else:
        show_table((), [(one_line(each["name"]), count(each["rows"], "question")) for each in answer["probes"]])


@probe.command("add")
@click.argument("name")
@click.argument("questions", nargs=-1, metavar="QUESTION...")
@click.option(
    "--from",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Read the questions from a file, one a line.",
)
@repo_option
@json_option
@pass_session
def add_probe(
    session: Session, /, name: str, questions: tuple[str, ...], path: Path | None, repo: str | None, as_json: bool
) -> None:
    """Add a probe, or replace its questions."""
    chosen = [*questions, *([] if path is None else questions_of(path))]
    if not chosen:
        raise click.UsageError("A probe needs questions: as arguments, or --from FILE")
    new = session.version(name, repo)
    answer = session.client.put(path_of(new.repo, "probes", new.rev), {"questions": chosen})
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{new.model} has {count(answer['rows'], 'question')}.")


@probe.command("show")
@click.argument("name")
@repo_option
@json_option
@pass_session
def show_probe(session: Session, /, name: str, repo: str | None, as_json: bool) -> None:
    """Show the questions of a probe."""
    known = session.version(name, repo)
    answer = session.client.get(path_of(known.repo, "probes", known.rev))
    if as_json:
        show_json(answer)
        return
    for conversation in answer["conversations"]:
        click.echo(" / ".join(one_line(str(message.get("content") or "")) for message in conversation))


@probe.command("rm")
@click.argument("name")
@repo_option
@json_option
@pass_session
def remove_probe(session: Session, /, name: str, repo: str | None, as_json: bool) -> None:
    """Remove a probe."""
    known = session.version(name, repo)
    answer = session.client.delete(path_of(known.repo, "probes", known.rev))
    if as_json:
        show_json(answer)
    else:
        click.echo(one_line(answer["message"]))
