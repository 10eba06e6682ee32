"""`bread logs`: the training of a bake, step by step."""

import time
from typing import Any

import click

from gateway.cli.baking.run import stages_of_bake
from gateway.cli.baking.stages import POLL_SECONDS, Stage, note_of
from gateway.cli.client import Client
from gateway.cli.completion import complete_bake
from gateway.cli.failures import CliError, Exit
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.output import show_json
from gateway.cli.session import Session, Version, path_of
from gateway.cli.text import one_line

MEASURES = {
    "eval_loss": ("held-out KL", ".3f"),
    "recovered": ("recovered", ".0%"),
    "eval_agreement": ("agree", ".0%"),
    "drift": ("drift", ".3f"),
}
"""Key in a row of an evaluation -> its name and format."""


@click.command()
@click.argument("job", metavar="JOB", shell_complete=complete_bake)
@repo_option
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on until the job ends.")
@json_option
@pass_session
def logs(session: Session, job: str, repo: str | None, follows: bool, as_json: bool) -> None:
    """Show a bake's training, one line a step.

    JOB is a bake (repo/bake), or the number of an active job (bread status). With --json, the metrics as one document.
    """
    bake = _bake_of_number(session, int(job), repo) if job.isdecimal() else session.bake(job, repo)
    path = path_of(bake.repo, "bakes", bake.rev)
    status = session.client.get(path)
    if as_json:
        show_json(session.client.get(f"{path}/metrics"))
        return
    stages = stages_of_bake(bake, status["config"])
    shown: dict[str, str] = {}
    printed = 0
    while True:
        for stage in stages[:-1]:
            _show_state(session.client, stage, shown)
        status = session.client.get(path)
        rows = session.client.get(f"{path}/metrics") if status["status"] != "not_started" else []
        for row in rows[printed:]:
            click.echo(line_of(row))
        printed = max(printed, len(rows))
        _show_change(stages[-1], status, shown)
        if not follows or status["status"] in {"complete", "failed", "not_started"}:
            break
        time.sleep(POLL_SECONDS)
    if status["status"] == "failed":
        raise CliError(f"{bake.model} failed: {one_line(status['error'] or 'it gives no reason')}", Exit.DIFFERS)


def line_of(row: dict[str, Any]) -> str:
    """One row of metrics: a step, or an evaluation."""
    step = f"step {row['iter']:5}"
    measured = [f"{name} {row[key]:{form}}" for key, (name, form) in MEASURES.items() if key in row]
    if measured:
        return f"{step}  {click.style('  '.join(measured), fg='cyan')}"
    cells = [step, f"epoch {row['epoch']:5.2f}", f"loss {row['loss']:.3f}", f"lr {row['lr']:.1e}"]
    if (taken := row.get("iter_time")) is not None:
        cells.append(click.style(f"{taken:.2f} s", dim=True))
    return "  ".join(cells)


def _show_state(client: Client, stage: Stage, shown: dict[str, str]) -> None:
    if shown.get(stage.label) not in {"complete", "failed"}:
        _show_change(stage, client.get(stage.path), shown)


def _show_change(stage: Stage, status: dict[str, Any], shown: dict[str, str]) -> None:
    """A line if the stage is in another state than before."""
    if shown.get(stage.label) != status["status"]:
        shown[stage.label] = status["status"]
        text = note_of(stage, status)
        click.secho(f"{stage.label} {status['status']}" + (f": {text}" if text else ""), dim=True)


def _bake_of_number(session: Session, number: int, repo: str | None) -> Version:
    for name in [repo] if repo else session.repos:
        for job in session.client.get(path_of(name, "status"))["jobs"]:
            if job["number"] == number:
                return Version(name, job["name"])
    raise CliError(f"no active job has the number {number}: bread status lists them", Exit.NOT_FOUND)
