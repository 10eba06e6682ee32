"""`bread rebase` and `bread cascade`: bakes made again on another version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.history.commits import Commit
from gateway.cli.history.log import fetch
from gateway.cli.merging import rebakes
from gateway.cli.merging.rebakes import BASE, Link
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import note, show_json
from gateway.cli.session import Session, path_of

MOST = 100_000
"""Commits that are read to find what a version came from."""


@click.command()
@version_argument("ref")
@click.option("--onto", required=True, metavar="BASE", help="The version to begin from; base: the base model.")
@click.option("--name", metavar="NAME", help="Name of the last new bake [<bake>-onto-<base>].")
@repo_option
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@json_option
@pass_session
def rebase(
    session: Session, /, ref: str, onto: str, name: str | None, repo: str | None, dry_run: bool, as_json: bool
) -> None:
    """Bake a version again, beginning from another one.

    What REF came from since it and BASE parted is baked again too, in order.

    Prompts, questions and settings stay; the answers are collected anew. If REF is a branch, it moves to the result.
    """
    repo, revs = session.versions([ref] if onto == BASE else [ref, onto], repo)
    target = BASE if onto == BASE else revs[1]
    older = ids(session, repo, None if onto == BASE else target)
    links = rebakes.chain(session.client, repo, revs[0], older)
    if not links:
        raise CliError(f"{ref} has nothing that {onto} lacks: there is nothing to rebase", Exit.CONFLICT)
    carry_out(session, repo, links, target, revs[0], name=name, dry_run=dry_run, as_json=as_json)


@click.command()
@version_argument("ref")
@click.option("--onto", metavar="NEW", help="The improved version [what the name of REF's bake means now].")
@repo_option
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask before it starts.")
@json_option
@pass_session
def cascade(
    session: Session, /, ref: str, onto: str | None, repo: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Bake again what came from a version that was improved.

    These are the bakes that began from an earlier version, and all that began from them. It shows the plan first.
    """
    repo, revs = session.versions([ref] if onto is None else [ref, onto], repo)
    tree = session.client.get(path_of(repo, "tree"))
    bake = session.bake(ref, repo).rev
    links = [
        Link(_commit(session, repo, _revision(tree, name)), parent)
        for name, parent in _descendants(tree, bake, onto is not None)
    ]
    if not links:
        raise CliError(f"nothing began from an earlier version of {repo}/{bake}", Exit.CONFLICT)
    carry_out(
        session, repo, links, bake if onto is None else revs[1], None, dry_run=dry_run, as_json=as_json, asks=not yes
    )


def _descendants(tree: Mapping[str, Any], bake: str, every: bool) -> Iterator[tuple[str, int | None]]:
    """The bakes that began from an earlier version of the bake, and what began from them: parents first.

    Args: every: also those that began from its present version.
    Yields: name, and the place of its parent among these; None: the bake itself.
    """
    bakes = tree["bakes"]
    parent_of: dict[str, str] = {}
    for _, source, kind, needed in tree["edges"]:
        if kind == "bake":
            parent_of.setdefault(source, needed)
    present = next(iter(bakes.get(bake, {}).get("model_name", [])), None)
    roots = {name for name, each in bakes.items() if name == bake or each["bake_name"] == bake}
    order: list[str] = []
    queue: list[tuple[str, int | None]] = [
        (name, None)
        for name, parent in parent_of.items()
        if parent in roots and (every or bakes[name]["parent"] != present) and name not in roots
    ]
    for name, parent_at in queue:  # it grows while it is walked
        if bakes[name]["deleted"] or not bakes[name]["model_name"]:
            continue
        if (bakes[name]["config"].get("merge") or {}).get("others"):
            note(f"left out: {name} is a merge, and what came from it: merge the new versions when they are baked")
            continue
        order.append(name)
        yield name, parent_at
        at = len(order) - 1
        queue += [(child, at) for child, parent in parent_of.items() if parent == name]


def _revision(tree: Mapping[str, Any], bake: str) -> str:
    """`<bake>/<step>`: the name of a bake that was held back means nothing."""
    return "/".join(tree["bakes"][bake]["model_name"][0].split("/")[2:])


def _commit(session: Session, repo: str, revision: str) -> Commit:
    commit: Commit = rebakes.chain(session.client, repo, revision, set(), most=1)[0].commit
    return commit


def ids(session: Session, repo: str, revision: str | None) -> set[str]:
    """The version and all that it came from. Args: revision: None: the base model."""
    if revision is None:
        return set()
    return {commit["id"] for commit in fetch(session, repo, revision, MOST)["commits"]}


def carry_out(
    session: Session,
    repo: str,
    links: Sequence[Link],
    onto: str,
    tip: str | None,
    *,
    name: str | None = None,
    dry_run: bool,
    as_json: bool,
    asks: bool = False,
) -> None:
    """Show the plan and run it. Args: tip: a branch of that name moves to the last result."""
    client = session.client
    plan = rebakes.planned(client, repo, links, onto, name)
    branch = None if tip is None else _branch(session, repo, tip)
    if not as_json:
        rebakes.show(plan)
        if branch is not None:
            click.echo(f"then branch {branch['name']} moves to {plan[-1].name}")
    if dry_run:
        if as_json:
            show_json({"plan": rebakes.as_plan(plan), "bakes": []})
        return
    if asks and not as_json:
        click.confirm(f"Bake {len(plan)} version{'' if len(plan) == 1 else 's'} again?", abort=True, err=True)
    statuses = rebakes.run(client, repo, plan)
    if branch is not None:
        body = {"kind": "branch", "to": plan[-1].name, "from": branch["commit"], "force": True}
        client.put(path_of(repo, "refs", branch["name"]), body)
    if as_json:
        show_json({"plan": rebakes.as_plan(plan), "bakes": statuses})
        return
    for each, status in zip(plan, statuses, strict=True):
        recovered = (status.get("loss") or {}).get("recovered")
        measured = "" if recovered is None else f"  recovered {recovered:.0%}"
        click.echo(f"{click.style(f'{repo}/{each.name}', bold=True)} is served{measured}")


def _branch(session: Session, repo: str, revision: str) -> dict[str, Any] | None:
    """The branch that a revision names, if it does."""
    refs = session.client.get(path_of(repo, "refs"))
    name = refs["head"] if revision == "HEAD" else revision
    return next((ref for ref in refs["refs"] if ref["kind"] == "branch" and ref["name"] == name), None)
