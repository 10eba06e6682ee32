"""`bread clone`: makes a repo on the own server that has all versions of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.options import json_option, pass_session
from gateway.cli.remotes import places, summary
from gateway.cli.remotes.copying import Move, Ref
from gateway.cli.remotes.fetch import fetch_from
from gateway.cli.remotes.places import Remote
from gateway.cli.session import Session, path_of

if TYPE_CHECKING:
    from gateway.cli.remotes.server import ServerRepo

ORIGIN = "origin"


@click.command()
@click.argument("url")
@click.argument("name", required=False)
@click.option("--with-data", is_flag=True, help="Take prompts, questions and answers too.")
@json_option
@pass_session
def clone(session: Session, url: str, name: str | None, with_data: bool, as_json: bool) -> None:
    """Make a repo that has all versions and names of another one.

    NAME gets all versions, branches and tags of the repo at URL, which is http://HOST:PORT/REPO,
    file:/FOLDER or hf://ORG/NAME. Bakes there are branches here. The URL becomes the remote origin. A clone that
    broke off goes on when the same command is run again.
    """
    address = places.normal(url)
    repo = name or address.rpartition("/")[2]
    local = places.local_repo(session, repo)
    source = Remote(ORIGIN, address, places.open_place(session, address, ORIGIN))
    if not source.place.exists():
        raise CliError(f"{address} is not there, or not for this key", Exit.NOT_FOUND)
    _prepare(local, address)
    fetched = fetch_from(local, source, (), with_data=with_data)
    here = local.refs()
    moves = [
        Move(each, Ref("branch", ref.commit), None)
        for each, ref in fetched.refs.items()
        if ref.kind == "branch" and each not in here
    ]
    local.move(moves, force=False)
    head = source.place.head()
    if head is not None and fetched.refs.get(head) is not None:
        local.set_head(head)
    session.settings.logins.save(session.server.url, repo=repo)
    shown = [*fetched.moves, *((move, move.name) for move in moves)]
    summary.show("From", address, shown, fetched.copied, as_json=as_json, history=fetched.history, notes=fetched.notes)


def _prepare(local: ServerRepo, address: str) -> None:
    """Create the repo with its remote. Raises: CliError if the name is taken by something else."""
    if local.exists():
        known = local.client.find(path_of(local.repo, "remotes", ORIGIN))
        if known is None or known["url"] != address:
            raise CliError(f"there is a repo {local.repo} already: clone under another name", Exit.CONFLICT)
    else:
        local.create()
    local.client.put(path_of(local.repo, "remotes", ORIGIN), {"url": address})
