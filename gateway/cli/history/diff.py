"""`bread diff`: what differs between two versions."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.failures import Exit
from gateway.cli.history import diff_views
from gateway.cli.history.commits import styled_id
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import note, show_json
from gateway.cli.progress import post_with_progress
from gateway.cli.session import Session, path_of
from gateway.cli.text import one_line

PARTS = ("stat", "patch", "tokens", "weights", "recipe")


@click.command()
@version_argument("a")
@version_argument("b")
@repo_option
@click.option("--stat", is_flag=True, help="How far the answers differ, by target (the default).")
@click.option("--patch", is_flag=True, help="The questions that changed most, with both answers.")
@click.option("--tokens", is_flag=True, help="Which tokens became likelier or less likely.")
@click.option("--weights", is_flag=True, help="The modules that changed most.")
@click.option("--recipe", is_flag=True, help="Prompts, targets and settings, as a text diff.")
@click.option("--probe", metavar="NAME", help="Compare on a probe (bread probe list) instead of held-out questions.")
@click.option("--ask", "questions", multiple=True, metavar="QUESTION", help="Compare on this question. Repeatable.")
@click.option("-n", "limit", type=click.IntRange(1, 50), default=5, metavar="N", help="Questions in --patch [5].")
@click.option("--max-rows", type=click.IntRange(1, 256), default=32, metavar="N", help="Most rows to compare on [32].")
@click.option("--exit-code", is_flag=True, help="End with exit code 1 if the versions differ.")
@json_option
@pass_session
def diff(session: Session, /, a: str, b: str, repo: str | None, as_json: bool, exit_code: bool, **options: Any) -> int:
    """Compare two versions: their answers, weights and recipes.

    A and B are versions, or `base`, the base model. They are compared on questions that their bakes held out, and on
    neutral ones; --probe and --ask choose others. The same call always has the same result.
    """
    repo, (rev_a, rev_b) = session.versions([a, b], repo)
    chosen = [part for part in PARTS if options[part]] or ["stat"]
    body = {
        "a": rev_a,
        "b": rev_b,
        "probe": options["probe"],
        "questions": list(options["questions"]) or None,
        "include": ["stat", "weights"] if chosen == ["stat"] else chosen,
        "limit": options["limit"],
        "max_rows": options["max_rows"],
    }
    if as_json:
        result = session.client.post(path_of(repo, "diff"), body, timeout=3600)
        show_json(result)
    else:
        result = post_with_progress(session.client, path_of(repo, "diff"), body, "comparing")
        _show(result, chosen)
    return Exit.DIFFERS if exit_code and result["a"]["id"] != result["b"]["id"] else Exit.OK


def _show(result: dict[str, Any], chosen: list[str]) -> None:
    for warning in result["warnings"]:
        note(f"note: {one_line(warning)}")
    for side in ("a", "b"):
        version = result[side]
        name = "base   " if version["id"] == "base" else styled_id(version["id"])
        click.echo(f"{click.style(side, dim=True)} {name} {one_line(version['message'])}")
    for part in [*chosen, *(["weights_line"] if chosen == ["stat"] else [])]:
        value = result["weights" if part == "weights_line" else part]
        if value is not None:
            if part != "weights_line":
                click.echo()
            getattr(diff_views, f"show_{part}")(value)
