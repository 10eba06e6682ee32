"""`bread remote`: the places that a repo is copied to and from."""

from __future__ import annotations

import click

from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.output import show_json, show_table
from gateway.cli.remotes import places
from gateway.cli.session import Session, path_of
from gateway.cli.text import one_line


@click.group()
def remote() -> None:
    """Add, list and remove the places that a repo is copied to and from."""


@remote.command()
@click.argument("name")
@click.argument("url")
@repo_option
@json_option
@pass_session
def add(session: Session, name: str, url: str, repo: str | None, as_json: bool) -> None:
    """Add a remote, or change its URL.

    URL is http://HOST:PORT/REPO on another gateway, file:/FOLDER, or hf://ORG/NAME on Hugging Face's hub. The key of
    another gateway stays on this machine: bread login URL, or BREAD_NAME_API_KEY for a remote NAME.
    """
    chosen = session.repo(repo)
    answer = session.client.put(path_of(chosen, "remotes", name), {"url": places.normal(url)})
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{one_line(answer['name'])} is {one_line(answer['url'])}")


@remote.command("list")
@repo_option
@json_option
@pass_session
def list_remotes(session: Session, repo: str | None, as_json: bool) -> None:
    """List the remotes of a repo, and their names as they were when they were last asked."""
    answer = session.client.get(path_of(session.repo(repo), "remotes"))
    if as_json:
        show_json(answer)
        return
    rows = []
    for each in answer["remotes"]:
        refs = ", ".join(f"{one_line(name)} {commit[:7]}" for name, commit in each["refs"].items())
        rows.append((one_line(each["name"]), one_line(each["url"]), refs))
    show_table(("REMOTE", "URL", "NAMES"), rows)


@remote.command()
@click.argument("name")
@repo_option
@pass_session
def rm(session: Session, name: str, repo: str | None) -> None:
    """Forget a remote and its names. The versions that came from it stay."""
    click.echo(one_line(session.client.delete(path_of(session.repo(repo), "remotes", name))["message"]))
