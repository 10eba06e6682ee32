"""`bread init`: creates a repo and makes it the current one."""

import click

from gateway.cli.options import json_option, pass_session
from gateway.cli.output import show_json
from gateway.cli.session import Session


@click.command()
@click.argument("repo")
@click.option("--base-model", metavar="MODEL", help="Model to bake into [the served one].")
@json_option
@pass_session
def init(session: Session, repo: str, base_model: str | None, as_json: bool) -> None:
    """Create a repo, and make it the current one. One that exists is left as it is."""
    body = {"repo_name": repo} if base_model is None else {"repo_name": repo, "base_model": base_model}
    answer = session.client.post("/v1/repo", body)
    session.settings.logins.save(session.server.url, repo=answer["repo_name"])
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{answer['repo_name']} is the current repo. Base model: {answer['base_model']}")
