"""`bread merge`, `bread cherry-pick` and `bread revert`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.merging import rebakes, rebase, running
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.session import Session, path_of


def _shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that all three have."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        repo_option,
        click.option("-m", "--message", metavar="TEXT", help="Message of the commit."),
        click.option("--name", metavar="NAME", help="Name of the result [made of the versions' names]."),
        click.option(
            "-s",
            "--strategy",
            type=click.Choice(["auto", "algebra", "distill", "compose"]),
            default="auto",
            help="How the weights are found [auto: add them up, and train if that loses too much].",
        ),
        click.option("--merge-base", "base", metavar="REF", help="What the changes are counted from."),
        click.option("--rank", type=click.IntRange(1), metavar="N", help="Highest rank of the sum of the weights."),
        click.option("--probe", metavar="NAME", help="Questions that measure imported versions (bread probe)."),
        click.option("--allow-held-back", is_flag=True, help="Also take versions that a gate held back."),
        click.option("--dry-run", is_flag=True, help="Only measure: make nothing."),
        json_option,
        pass_session,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("refs", metavar="[A] B...", nargs=-1, required=True)
@click.option("-w", "--weight", "weights", multiple=True, type=float, help="Weight of each version, in their order.")
@click.option("--ours", "resolution", flag_value="ours", help="Where both contradict each other, A is right.")
@click.option("--theirs", "resolution", flag_value="theirs", help="Where both contradict each other, B is right.")
@click.option("--on-policy", "rounds", type=click.IntRange(1), metavar="N", help="Rounds on the merge's own answers.")
@_shared
def merge(
    session: Session,
    /,
    refs: tuple[str, ...],
    weights: tuple[float, ...],
    resolution: str | None,
    rounds: int | None,
    **options: Any,
) -> int:
    """Merge versions, and prove what is left of each.

    With one version, it is merged into the current branch. The result is a bake; the current branch moves to it if
    that is forward. A name only moves to a merge that keeps enough of each version.

    \b
      bread merge pirate json -m "a pirate who speaks JSON"
    """
    repo, revs = session.versions(list(refs), options["repo"])
    into, others = ("HEAD", revs) if len(revs) == 1 else (revs[0], revs[1:])
    body: dict[str, Any] = {"others": others, "into": into, "weights": list(weights), "resolution": resolution}
    if rounds is not None:
        body["overrides"] = {"data": {"on_policy": {"rounds": rounds}}}
    return _run(session, repo, body, options)


@click.command("cherry-pick")
@version_argument("ref")
@click.option("--into", metavar="REF", default=None, help="Version to change [the current branch].")
@_shared
def cherry_pick(session: Session, /, ref: str, into: str | None, **options: Any) -> int:
    """Add what one version changed, and nothing of what it came from."""
    return _one(session, "cherry-pick", ref, into, options)


@click.command()
@version_argument("ref")
@click.option("--into", metavar="REF", default=None, help="Version to change [the current branch].")
@click.option("--rebake", is_flag=True, help="Bake what came after REF again, on what REF came from.")
@_shared
def revert(session: Session, /, ref: str, into: str | None, rebake: bool, **options: Any) -> int:
    """Take out what one version changed, and keep what came after it.

    If nothing came after it on the branch, the branch moves to its parent.
    """
    if rebake:
        return _rebaked(session, ref, into, options)
    return _one(session, "revert", ref, into, options)


def _rebaked(session: Session, ref: str, into: str | None, options: dict[str, Any]) -> int:
    repo, revs = session.versions([ref] if into is None else [ref, into], options["repo"])
    tip = revs[1] if into is not None else "HEAD"
    reverted = session.client.get(path_of(repo, "commits", *revs[0].split("/")))
    if reverted["id"] not in rebase.ids(session, repo, tip):
        raise CliError(f"{ref} is no ancestor of {tip}, so there is nothing to revert", Exit.CONFLICT)
    links = rebakes.chain(session.client, repo, tip, rebase.ids(session, repo, reverted["id"]))
    if not links:
        raise CliError(f"nothing came after {ref}: `bread revert {ref}` moves the branch to its parent", Exit.CONFLICT)
    onto = reverted["parents"][0]["id"] if reverted["parents"] else rebakes.BASE
    settings = {key: options[key] for key in ("name", "dry_run", "as_json")}
    rebase.carry_out(session, repo, links, onto, tip, **settings)
    return Exit.OK


def _one(session: Session, kind: str, ref: str, into: str | None, options: dict[str, Any]) -> int:
    repo, revs = session.versions([ref] if into is None else [ref, into], options["repo"])
    body = {"kind": kind, "others": revs[:1], "into": revs[1] if into is not None else "HEAD"}
    if options["strategy"] == "compose":
        raise CliError(f"a {kind} can't be composed: choose auto, algebra or distill", Exit.USAGE)
    return _run(session, repo, body, options)


def _run(session: Session, repo: str, body: dict[str, Any], options: dict[str, Any]) -> int:
    names = ("message", "name", "strategy", "base", "rank", "probe", "allow_held_back", "dry_run")
    body |= {name: options[name] for name in names if options[name] not in (None, False)}
    return running.run(session, repo, body, as_json=options["as_json"])
