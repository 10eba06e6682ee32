"""`bread push`: copies versions of the own server to a remote, and moves its names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.remotes import places, progress, summary
from gateway.cli.remotes.copying import Move, Ref, check_fast_forwards, copy
from gateway.cli.session import Session, path_of

if TYPE_CHECKING:
    from gateway.cli.remotes.server import ServerRepo


@click.command()
@click.argument("remote", default="origin")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "all_names", is_flag=True, help="Push all bakes, branches and tags.")
@click.option("--tags", is_flag=True, help="Push all tags too.")
@click.option("--as", "as_name", metavar="NAME", help="The name there; with it, any revision can be pushed.")
@click.option("--force", is_flag=True, help="Move names there that have gone another way.")
@click.option("--with-data", is_flag=True, help="Send prompts, questions and answers too.")
@repo_option
@json_option
@pass_session
def push(
    session: Session,
    remote: str,
    names: tuple[str, ...],
    all_names: bool,
    tags: bool,
    as_name: str | None,
    force: bool,
    with_data: bool,
    repo: str | None,
    as_json: bool,
) -> None:
    """Copy versions to a remote and move its names there.

    REMOTE is a remote's name (see bread remote) or a URL. Without NAME, the current branch is pushed. A bake arrives as
    a branch of its name. Prompts, questions and answers stay here unless you say --with-data. A push can't be undone.
    """
    local = places.local_repo(session, session.repo(repo))
    target = places.find_remote(session, local, remote)
    chosen = _chosen(local, names, all_names=all_names, tags=tags, as_name=as_name)
    if not target.place.exists():
        target.place.create()
        there: dict[str, Ref] = {}
    else:
        there = target.place.refs()
    for name in chosen:
        if name in there and there[name].is_bake:
            raise CliError(
                f"a bake there has the name {name}: push it under another one, with --as NAME", Exit.CONFLICT
            )
    moves = [Move(name, ref, there[name].commit if name in there else None) for name, ref in chosen.items()]
    moves = [move for move in moves if move.before != move.ref.commit]
    history = local.history({move.ref.commit for move in moves})
    check_fast_forwards(
        [move for move in moves if not force or move.ref.kind == "tag"],
        history,
        way_out=lambda name: f"run `bread fetch {remote}` and continue from its version, or push with --force",
    )
    tips = {move.ref.commit for move in moves}
    with progress.shown("pushing") as report:
        copied = copy(local, target.place, tips, with_data=with_data, report=report, history=history)
    target.place.move(moves, force=force)
    if target.name is not None:
        seen = {name: ref.commit for name, ref in chosen.items() if ref.kind == "branch"}
        local.client.put(path_of(local.repo, "remotes", target.name, "refs"), {"refs": seen, "verb": "push"})
    shown = [(move, move.name) for move in moves]
    summary.show("To", target.url, shown, copied, as_json=as_json, history=history)


def _chosen(
    local: ServerRepo, names: tuple[str, ...], *, all_names: bool, tags: bool, as_name: str | None
) -> dict[str, Ref]:
    """Name there -> what it is to mean."""
    refs = local.refs()
    if as_name is not None:
        if len(names) != 1 or all_names or tags:
            raise CliError(
                "--as NAME goes with one name or revision: bread push REMOTE yoda~1 --as old-yoda", Exit.USAGE
            )
        ref = refs.get(names[0]) or Ref("branch", local.client.get(path_of(local.repo, "commits", names[0]))["id"])
        return {as_name: ref}
    chosen = {name: ref for name, ref in refs.items() if all_names or (tags and ref.kind == "tag")}
    for name in names:
        if name not in refs:
            raise CliError(
                f"{local.repo} has no bake, branch or tag {name!r} to push: --as NAME pushes any revision",
                Exit.NOT_FOUND,
            )
        chosen[name] = refs[name]
    if not names and not all_names and not tags:
        head = local.head()
        if head is None or head not in refs:
            known = ", ".join(sorted(refs)[:5]) or "there is none yet"
            raise CliError(f"name what to push ({known}), or say --all: no branch is current", Exit.USAGE)
        chosen[head] = refs[head]
    return chosen
