"""`bread status`: the server, and the current repo with its jobs."""

from typing import Any

import click

from gateway.cli.client import Unreachable
from gateway.cli.completion import complete_repo
from gateway.cli.failures import CliError
from gateway.cli.options import json_option, pass_session
from gateway.cli.output import show_fields, show_json, show_table
from gateway.cli.session import Session, path_of
from gateway.cli.text import count, one_line


@click.command()
@click.argument("repo", required=False, shell_complete=complete_repo)
@json_option
@pass_session
def status(session: Session, repo: str | None, as_json: bool) -> None:
    """Show the server, the repo and its jobs."""
    if repo is None:
        try:
            repo = session.repo()
        except CliError as error:
            if error.status is not None or isinstance(error, Unreachable):
                raise  # else there is no repo, or several
    if as_json:
        show_json(session.client.get("/" if repo is None else path_of(repo, "status")))
        return
    front = session.client.get("/")
    state = front["status"].replace("_", " ")
    detail = f" ({one_line(front['detail'])})" if front.get("detail") else ""
    color = "green" if front["status"] == "ready" else "yellow"
    show_fields(
        [
            ("server", f"{session.server.url}  {click.style(state, fg=color)}{detail}"),
            ("models", str(front.get("models", ""))),
            *_repo_fields(session, repo),
        ]
    )
    if repo is not None:
        _show_jobs(session.client.get(path_of(repo, "status"))["jobs"])


def _repo_fields(session: Session, repo: str | None) -> list[tuple[str, str]]:
    if repo is None:
        others = session.repos
        return [("repos", ", ".join(others) or "none yet: bread bake, or bread init REPO")]
    answer = session.client.get(path_of(repo, "status"))
    sizes = f"{count(answer['commits'], 'version')}, {count(answer['refs'], 'name')}"
    fields = [("repo", f"{click.style(repo, bold=True)}  {sizes}"), ("base", one_line(answer["base_model"]))]
    if answer.get("head"):
        fields.append(("branch", one_line(answer["head"])))
    for verb in ("undo", "redo"):
        if answer.get(verb):
            fields.append((verb, one_line(_summary(answer[verb]))))
    return fields


def _summary(operation: Any) -> str:
    return f"{operation['id']}  {operation['summary']}" if isinstance(operation, dict) else str(operation)


def _show_jobs(jobs: list[dict[str, Any]]) -> None:
    rows = []
    for job in jobs:
        percent = job.get("progress_percent")
        rows.append(
            (
                str(job["number"]),
                job["stage"],
                one_line(job["name"]),
                job["state"],
                "" if percent is None else f"{percent:.0f}%",
            )
        )
    if rows:
        click.echo()
        show_table(("JOB", "STAGE", "NAME", "STATE", "DONE"), rows, numbers=(0, 4), cuts=2)
