"""Asks for a merge, follows it, and shows its proof."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli import proof
from gateway.cli.baking.stages import Stage, Status, run_all, warnings_of
from gateway.cli.failures import CliError, Exit
from gateway.cli.history.commits import styled_id
from gateway.cli.output import lines_of, note, show_json, show_table, width
from gateway.cli.progress import post_with_progress
from gateway.cli.session import Session, path_of
from gateway.cli.text import one_line

CONFLICT_CODE = "MERGE_CONFLICT"


def run(session: Session, repo: str, body: dict[str, Any], *, as_json: bool) -> int:
    """Ask for the merge, wait for its end, and show it. Returns: the exit code."""
    asked = _asked(session, repo, body, as_json=as_json)
    bake = asked["bake"]
    if bake is None:
        if as_json:
            show_json(asked)
        else:
            _show_plan(asked)
        return Exit.OK
    if not as_json:
        _show_plan(asked)
    path = path_of(repo, "bakes", bake)
    stages = [Stage("merge", path, "")]
    if asked["report"] is not None and body.get("strategy") == "compose":
        target = path_of(repo, "targets", bake)
        stages = [Stage("rollout", f"{target}/rollout", "answers"), *stages]
    try:
        status = run_all(session.client, stages, f"{repo}/{bake}")["merge"]
    except CliError as error:
        ended = session.client.find(path)
        if ended is not None and ended.get("error_code") == CONFLICT_CODE:
            raise CliError(error.message, Exit.CONFLICT) from error
        raise
    report = status["merge"] or {}
    if as_json:
        show_json(_summary(asked, status))
    else:
        for warning in warnings_of({"merge": status}):
            if not status["held_back"] or one_line(status["held_back"]) not in warning:  # shown at the end
                note(f"note: {warning}")
        _show_report(session, repo, status)
    return Exit.OK if report.get("verdict") == "passed" and not status["held_back"] else Exit.DIFFERS


def _asked(session: Session, repo: str, body: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """The server's first answer, after it has compared the versions.

    Raises: CliError; with exit code 3 if they contradict each other.
    """
    path = path_of(repo, "merges")
    answer: dict[str, Any] = (
        session.client.post(path, body, timeout=3600)
        if as_json
        else post_with_progress(session.client, path, body, "comparing")
    )
    return answer


def _show_plan(asked: dict[str, Any]) -> None:
    report = asked["report"]
    if report is None:
        click.echo(one_line(asked["message"]))
        return
    base = "the base model" if asked["base"] is None else styled_id(asked["base"])
    cut = report["rank"] < report["full_rank"]
    rank = f"rank {report['full_rank']} -> {report['rank']} ({report['energy_lost']:.1%} of the energy)"
    click.echo(f"merge base: {base}   {rank if cut else 'rank ' + str(report['rank'])}")
    conflict = report["conflict"]
    if text := proof.conflict_text(conflict):
        click.echo(f"conflict {text}")
    if asked["bake"] is None:
        for each in conflict["questions"]:
            click.secho(f'  "{one_line(each["question"], 70)}"', bold=True)
            show_table((), [(f"    {label}", one_line(text, 100)) for label, text in each["answers"].items()])
        click.echo("\n".join(lines_of(one_line(asked["message"]), width() - 1)))


def _show_report(session: Session, repo: str, status: Status) -> None:
    report = status["merge"]
    click.echo(f"made by {report['strategy']}")
    show_table((), proof.rows_of(report))
    if report.get("drift") is not None:
        click.echo(f"  drift {report['drift']:.4f} nats per token, at most {report['drift_limit']:.4f}")
    model = f"{repo}/{status['bake_name']}"
    if status["held_back"]:
        kept = f"{model}/{status['checkpoint']}"
        note(f"held back: {one_line(status['held_back'])}. It is served as {kept}, and no name moved.")
    else:
        click.echo(f"gate passed; {click.style(model, bold=True)} is served")


def _summary(asked: dict[str, Any], status: Status) -> dict[str, Any]:
    report = status["merge"] or {}
    return {
        **asked,
        "report": report,
        "verdict": report.get("verdict"),
        "strategy": report.get("strategy"),
        "retention": {label: each["retention"] for label, each in report.get("retention", {}).items()},
        "held_back": status["held_back"],
        "model": None if not status["model_name"] else status["model_name"][0],
    }
