"""`bread promote` and `bread rollback`: which version a bake's name means."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.completion import complete_bake
from gateway.cli.failures import CliError, Exit
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import show_json
from gateway.cli.session import Session, Version, path_of


@click.command()
@version_argument("ref")
@repo_option
@json_option
@pass_session
def promote(session: Session, /, ref: str, repo: str | None, as_json: bool) -> None:
    """Let a bake's name mean this version.

    REF is one of the bake's versions: yoda/12, yoda~1, yoda@{1}, a tag or an id. Requests from now on get it; those
    under way end on the version that they began with.
    """
    version = session.version(ref, repo)
    commit = session.client.get(path_of(version.repo, "commits", version.rev))
    if commit["model"] is None:
        raise CliError(f"the weights of {version.model} are not here, so no name can mean it", Exit.CONFLICT)
    _, owner, bake, step = commit["model"].split("/")
    answer = session.client.post(path_of(owner, "bakes", bake, "promote"), {"checkpoint": int(step)})
    _report(Version(owner, bake), answer, as_json=as_json)


@click.command()
@click.argument("name", metavar="BAKE", shell_complete=complete_bake)
@repo_option
@json_option
@pass_session
def rollback(session: Session, /, name: str, repo: str | None, as_json: bool) -> None:
    """Point a bake's name to where it was before."""
    bake = session.bake(name, repo)
    answer = session.client.post(path_of(bake.repo, "bakes", bake.rev, "rollback"))
    _report(bake, answer, as_json=as_json)


def _report(bake: Version, answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{bake.model} is {bake.model}/{answer['live_checkpoint']}. bread undo takes it back.")
