"""`bread run`, `bread stim`, `bread rollout`: the stages one by one, in bgit's words."""

from typing import Any

import click

from gateway.cli.baking.stages import Stage, follow, run_all, start, warnings_of
from gateway.cli.completion import complete_bake
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.output import note, show_json
from gateway.cli.session import Session, Version, path_of
from gateway.cli.text import count, one_line

PAGE = 1000
"""Rows in one request: the most that the server gives."""


@click.command()
@click.argument("name", metavar="BAKE", shell_complete=complete_bake)
@repo_option
@click.option("--detach", is_flag=True, help="Start everything and return at once.")
@json_option
@pass_session
def run(session: Session, name: str, repo: str | None, detach: bool, as_json: bool) -> None:
    """Run all stages of a saved bake.

    These are stim and rollout of its targets, then its training. Stages that are complete are not repeated.
    """
    bake = session.bake(name, repo)
    client = session.client
    stages = stages_of_bake(bake, client.get(path_of(bake.repo, "bakes", bake.rev))["config"])
    if detach:
        start(client, stages)
        status = client.get(stages[-1].path)
    else:
        statuses = run_all(client, stages, bake.model)
        status = statuses["bake"]
        for warning in [] if as_json else warnings_of(statuses):
            note(f"note: {warning}")
    if as_json:
        show_json(status)
    else:
        click.echo(f"{bake.model}: {status['status']}")


def stages_of_bake(bake: Version, config: dict[str, Any]) -> list[Stage]:
    """The stages of the bake's targets, in the order in which they run, and the bake."""
    targets = list(dict.fromkeys(dataset["target"] for dataset in config.get("datasets") or []))
    stages = [
        Stage(kind if len(targets) == 1 else f"{kind} {target}", path_of(bake.repo, "targets", target, kind), unit)
        for target in targets
        for kind, unit in (("stim", "questions"), ("rollout", "answers"))
    ]
    return [*stages, Stage("bake", path_of(bake.repo, "bakes", bake.rev), "")]


@click.command()
@click.argument("name", metavar="TARGET")
@repo_option
@click.option("--run", "runs", is_flag=True, help="Collect the questions first.")
@json_option
@pass_session
def stim(session: Session, name: str, repo: str | None, runs: bool, as_json: bool) -> None:
    """Show the questions of a target."""
    _show_output(session, session.bake(name, repo), "stim", "question", runs=runs, as_json=as_json)


@click.command()
@click.argument("name", metavar="TARGET")
@repo_option
@click.option("--run", "runs", is_flag=True, help="Collect the answers first.")
@json_option
@pass_session
def rollout(session: Session, name: str, repo: str | None, runs: bool, as_json: bool) -> None:
    """Show the questions and answers of a target."""
    _show_output(session, session.bake(name, repo), "rollout", "answer", runs=runs, as_json=as_json)


def _show_output(session: Session, target: Version, kind: str, unit: str, *, runs: bool, as_json: bool) -> None:
    path = path_of(target.repo, "targets", target.rev, kind)
    if runs:
        session.client.post(path)
        follow(session.client, [Stage(kind, path, f"{unit}s")])
    page = session.client.get(f"{path}/output", limit=PAGE)
    if as_json:
        show_json(page)
        return
    for row in page["output"]:
        question = one_line(str(row.get("question") or row.get("stimulus") or ""))
        if kind == "stim":
            click.echo(question)
        else:
            click.secho(question, dim=True)
            click.echo(f"  {one_line(row.get('response') or '')}")
    if page["has_more"] or page["status"] != "complete":
        note(f"{count(page['lines'], unit)} so far, {page['status']}; {len(page['output'])} shown.")
