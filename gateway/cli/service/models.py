"""`bread models`: what the server answers with."""

import click

from gateway.cli.options import json_option, pass_session
from gateway.cli.output import show_json, show_table
from gateway.cli.session import Session
from gateway.cli.text import age, one_line


@click.command()
@click.argument("repo", required=False)
@json_option
@pass_session
def models(session: Session, repo: str | None, as_json: bool) -> None:
    """List the models that are served.

    These are the base model, and every version, newest first; with REPO only its versions. A name in bold moves to new
    versions.
    """
    answer = session.client.get("/v1/models")
    if as_json:
        show_json(answer)
        return
    rows = []
    for model in answer["data"]:
        name, served, base = one_line(model["id"]), one_line(model.get("served") or ""), model.get("root")
        if repo is not None and f"/{repo}/" not in f"/{name}":
            continue
        is_base = name == base
        version = "base model" if is_base else served.rpartition("/")[2] if served != name else ""
        parent = "" if is_base or model.get("parent") in {base, None} else one_line(model["parent"])
        style = {"bold": True} if version and not is_base else {"dim": True} if not is_base else {}
        rows.append((click.style(name, **style) if style else name, version, age(model["created"]), parent))
    show_table(("MODEL", "VERSION", "MADE", "FROM"), rows)
