"""`bread fetch` and `bread pull`: copy versions of a remote to the own server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.remotes import places, progress, summary
from gateway.cli.remotes.copying import Copied, Move, Node, Ref, check_fast_forwards, copy
from gateway.cli.remotes.places import Remote
from gateway.cli.session import Session, path_of

if TYPE_CHECKING:
    from gateway.cli.remotes.server import ServerRepo


class Fetched(NamedTuple):
    refs: dict[str, Ref]
    """The remote's names that were asked for."""
    moves: list[tuple[Move, str]]
    """What changed here, each with its name here."""
    copied: Copied
    history: Mapping[str, Node]
    """The remote's."""
    notes: list[str]


def fetch_from(
    local: ServerRepo, remote: Remote, names: Collection[str], *, with_data: bool, prune: bool = False
) -> Fetched:
    """Copy what the remote's names mean, and record the names. Args: names: empty for all. Raises: CliError."""
    if not remote.place.exists():
        raise CliError(f"{remote.url} is not there, or not for this key", Exit.NOT_FOUND)
    there = remote.place.refs()
    for name in names:
        if name not in there:
            raise CliError(f"{remote.url} has no bake, branch or tag {name!r}", Exit.NOT_FOUND)
    refs = {name: ref for name, ref in there.items() if not names or name in names}
    history = remote.place.history()
    with progress.shown("fetching") as report:
        tips = {ref.commit for ref in refs.values()}
        copied = copy(remote.place, local, tips, with_data=with_data, report=report, history=history)
    moves, notes = _tags(local, refs)
    if remote.name is not None:
        moves = [*_track(local, remote.name, refs, there if prune else None), *moves]
    return Fetched(refs, moves, copied, history, notes)


def _track(
    local: ServerRepo, name: str, refs: Mapping[str, Ref], present: Collection[str] | None
) -> list[tuple[Move, str]]:
    """Args: present: all names of the remote, to forget others; None: forget none."""
    path = path_of(local.repo, "remotes", name)
    known: dict[str, str] = local.client.get(path)["refs"]
    seen: dict[str, str | None] = {each: ref.commit for each, ref in refs.items() if ref.kind == "branch"}
    if present is not None:
        seen |= {each: None for each in known if each not in present}
    local.client.put(f"{path}/refs", {"refs": seen, "verb": "fetch"})
    return [
        (Move(each, ref, known.get(each)), f"{name}/{each}")
        for each, ref in refs.items()
        if ref.kind == "branch" and known.get(each) != ref.commit
    ]


def _tags(local: ServerRepo, refs: Mapping[str, Ref]) -> tuple[list[tuple[Move, str]], list[str]]:
    """Add the tags that are new here."""
    here, moves, notes = local.refs(), [], []
    for name, ref in refs.items():
        if ref.kind == "tag" and name not in here:
            moves.append(Move(name, ref, None))
        elif ref.kind == "tag" and here[name].commit != ref.commit:
            notes.append(f"tag {name} was not taken: the name means {here[name].commit[:7]} here")
    local.move(moves, force=False)
    return [(move, move.name) for move in moves], notes


@click.command()
@click.argument("remote", default="origin")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--prune", is_flag=True, help="Forget names that are gone there.")
@click.option("--with-data", is_flag=True, help="Take prompts, questions and answers too.")
@repo_option
@json_option
@pass_session
def fetch(
    session: Session,
    remote: str,
    names: tuple[str, ...],
    prune: bool,
    with_data: bool,
    repo: str | None,
    as_json: bool,
) -> None:
    """Copy the versions of a remote here. Its names are REMOTE/NAME; no name of yours moves."""
    local = places.local_repo(session, session.repo(repo))
    source = places.find_remote(session, local, remote)
    fetched = fetch_from(local, source, names, with_data=with_data, prune=prune)
    summary.show(
        "From", source.url, fetched.moves, fetched.copied, as_json=as_json, history=fetched.history, notes=fetched.notes
    )


@click.command()
@click.argument("remote", default="origin")
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Take the remote's version, even if yours has gone another way.")
@click.option("--with-data", is_flag=True, help="Take prompts, questions and answers too.")
@repo_option
@json_option
@pass_session
def pull(
    session: Session, remote: str, name: str | None, force: bool, with_data: bool, repo: str | None, as_json: bool
) -> None:
    """Fetch a branch, and move yours of that name forward to it.

    If yours has gone another way, nothing moves. Without NAME, the current branch is pulled.
    """
    local = places.local_repo(session, session.repo(repo))
    branch = name or local.head()
    if branch is None:
        raise CliError("no branch is current: name the one to pull, as in bread pull origin yoda", Exit.USAGE)
    source = places.find_remote(session, local, remote)
    fetched = fetch_from(local, source, [branch], with_data=with_data)
    ref, here = fetched.refs[branch], local.refs().get(branch)
    tracked = f"{source.name or 'origin'}/{branch}"
    if here is not None and here.is_bake:
        raise CliError(
            f"{branch} is a bake here, which only bread bake and bread promote move: `bread branch NAME {tracked}` "
            "gives the fetched version a branch",
            Exit.CONFLICT,
        )
    move = Move(branch, Ref(ref.kind, ref.commit), None if here is None else here.commit)
    moves = [] if move.before == ref.commit or ref.kind == "tag" else [move]
    if not force:
        check_fast_forwards(
            moves,
            fetched.history,
            way_out=lambda each: (
                f"`bread branch {each}-theirs {tracked}` keeps both, `bread pull --force` takes theirs"
            ),
        )
    local.move(moves, force=force)
    shown = [*fetched.moves, *((each, each.name) for each in moves)]
    summary.show(
        "From", source.url, shown, fetched.copied, as_json=as_json, history=fetched.history, notes=fetched.notes
    )
