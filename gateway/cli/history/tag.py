"""`bread tag`."""

from __future__ import annotations

import click

from gateway.cli.history.branch import put, show_refs
from gateway.cli.history.commits import styled_id
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import show_json
from gateway.cli.session import Session, Version, path_of
from gateway.cli.text import one_line


@click.command()
@click.argument("name", required=False)
@version_argument("ref", metavar="[REF]", required=False)
@repo_option
@click.option("-m", "--message", default="", metavar="TEXT", help="What the tag stands for.")
@click.option("-d", "--delete", is_flag=True, help="Remove the tag; its version stays.")
@json_option
@pass_session
def tag(
    session: Session,
    /,
    name: str | None,
    ref: str | None,
    repo: str | None,
    message: str,
    delete: bool,
    as_json: bool,
) -> None:
    """List, add or remove tags.

    A tag never moves. It means REF, or HEAD, and is served as REPO/NAME at once.
    """
    if name is None:
        answer = session.client.get(path_of(session.repo(repo), "refs"))
        if as_json:
            show_json(answer)
        else:
            show_refs(answer["refs"], "tag")
        return
    chosen, (tag_name, *revs) = session.versions([name] if ref is None else [name, ref], repo)
    if delete:
        answer = session.client.delete(path_of(chosen, "refs", tag_name), force=True)
        text = one_line(answer["message"])
    else:
        body = {"kind": "tag", "to": revs[0] if revs else "HEAD", "message": message}
        answer = put(session, Version(chosen, tag_name), body, is_new=False)
        text = f"{chosen}/{tag_name} is {styled_id(answer['commit'])}."
    if as_json:
        show_json(answer)
    else:
        click.echo(text)
