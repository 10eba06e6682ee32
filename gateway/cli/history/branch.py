"""`bread branch` and `bread switch`."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.history.commits import COLORS, styled_id
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import note, show_json, show_table
from gateway.cli.session import Session, Version, path_of
from gateway.cli.text import age, one_line


@click.command()
@version_argument("name", metavar="[NAME]", required=False)
@version_argument("ref", metavar="[REF]", required=False)
@repo_option
@click.option("-f", "--force", is_flag=True, help="Move a branch that exists, also backwards.")
@click.option("-d", "--delete", is_flag=True, help="Remove the branch; its versions stay.")
@click.option("-a", "--all", "lists_all", is_flag=True, help="List bakes and tags too.")
@json_option
@pass_session
def branch(
    session: Session,
    /,
    name: str | None,
    ref: str | None,
    repo: str | None,
    force: bool,
    delete: bool,
    lists_all: bool,
    as_json: bool,
) -> None:
    """List, add, move or remove branches.

    A new branch begins at REF, or at HEAD. It is served as REPO/NAME at once.
    """
    if name is None:
        answer = session.client.get(path_of(session.repo(repo), "refs"))
        if as_json:
            show_json(answer)
        else:
            show_refs(answer["refs"], None if lists_all else "branch")
        return
    new = session.version(name, repo)
    path = path_of(new.repo, "refs", new.rev)
    if delete:
        answer = session.client.delete(path, force=force)
        show_json(answer) if as_json else click.echo(one_line(answer["message"]))
        return
    body = {
        "kind": "branch",
        "to": "HEAD" if ref is None else session.versions([name, ref], repo)[1][1],
        "force": force,
    }
    answer = put(session, new, body, is_new=not force)
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{new.model} is {styled_id(answer['commit'])}.")


def put(session: Session, name: Version, body: dict[str, Any], *, is_new: bool) -> Any:
    """Add or move a ref. Args: is_new: it must not exist yet."""
    path = path_of(name.repo, "refs", name.rev)
    try:
        return session.client.put(path, {**body, "from": None} if is_new else body)
    except CliError as error:
        if is_new and error.status == 409:
            known = {ref["name"]: ref["kind"] for ref in session.client.get(path_of(name.repo, "refs"))["refs"]}
            if known.get(name.rev) == "branch":
                message = (
                    f"the branch {name.model} exists: bread branch -f moves it, bread switch makes it the current one"
                )
                raise CliError(message, Exit.CONFLICT, 409) from error
        raise


def show_refs(refs: list[dict[str, Any]], kind: str | None) -> None:
    """Args: kind: None for all."""
    rows = []
    for ref in refs:
        if kind in {None, ref["kind"]}:
            mark = "*" if ref["is_head"] else " "
            name = click.style(one_line(ref["name"]), fg=COLORS.get(ref["kind"]))
            moved = age(ref["updated"]) if ref["updated"] else ""
            what = [ref["kind"]] if kind is None else []
            rows.append((f"{mark} {name}", *what, styled_id(ref["commit"]), moved, one_line(ref["message"])))
    show_table((), rows)
    if not rows:
        noun = kind or "branch"
        note(f"There is no {noun} yet: bread {noun} NAME REF adds one.")


@click.command()
@version_argument("name", metavar="REPO|BRANCH")
@repo_option
@click.option("-c", "--create", is_flag=True, help="Add the branch at HEAD first.")
@json_option
@pass_session
def switch(session: Session, /, name: str, repo: str | None, create: bool, as_json: bool) -> None:
    """Choose the current repo, or its branch.

    The current repo is kept on this machine, the current branch (HEAD) on the server.
    """
    chosen, branch_name = session.repo_or_version(name, repo)
    if branch_name is None:
        if chosen not in session.repos:
            raise CliError(f"there is no repo {chosen!r}: bread init {chosen} creates it", Exit.NOT_FOUND)
        answer = session.client.get(path_of(chosen))
        text = f"The current repo is {chosen}."
    else:
        if create:
            put(session, Version(chosen, branch_name), {"kind": "branch", "to": "HEAD"}, is_new=True)
        answer = session.client.put(path_of(chosen, "head"), {"branch": branch_name})
        text = f"The current branch is {chosen}/{branch_name}, at {styled_id(answer['commit'])}."
    session.settings.logins.save(session.server.url, repo=chosen)
    if as_json:
        show_json(answer)
    else:
        click.echo(text)
