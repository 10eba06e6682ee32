"""`bread blame`: which version each word of an answer comes from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import click

from gateway.cli.history.commits import SHORT
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import has_colors, note, show_json, show_paragraph, show_table
from gateway.cli.progress import post_with_progress
from gateway.cli.session import Session, path_of
from gateway.cli.text import count, harmless, one_line

COLORS = ("green", "magenta", "cyan", "yellow", "blue", "red")
BASE = "base"


@click.command()
@version_argument("ref")
@click.argument("question")
@repo_option
@click.option("--answer", metavar="TEXT", help="Blame this answer instead of the version's own.")
@json_option
@pass_session
def blame(session: Session, /, ref: str, question: str, repo: str | None, answer: str | None, as_json: bool) -> None:
    """Show which version each word of an answer comes from.

    All versions that REF came from read the same answer. A word belongs to the one that raised its probability most.
    """
    version = session.version(ref, repo)
    body = {"model": version.rev, "question": question, "answer": answer}
    result = post_with_progress(session.client, path_of(version.repo, "blame"), body, "asking every ancestor")
    if as_json:
        show_json(result)
        return
    for warning in result["warnings"]:
        note(f"note: {one_line(warning)}")
    versions = [ancestor for ancestor in result["ancestors"] if ancestor["id"] != BASE]
    colors = {ancestor["id"]: COLORS[number % len(COLORS)] for number, ancestor in enumerate(versions)}
    tokens = without_end(result["tokens"], result["answer"])
    if has_colors():
        spans = [(harmless(token["text"]).replace("\n", " "), colors.get(token["commit"])) for token in tokens]
        show_paragraph("", spans)
    else:
        for line in blamed_lines(tokens, colors):
            click.echo(line)
    click.echo()
    show_table((), [_row(ancestor, colors) for ancestor in result["ancestors"]], numbers=(2, 3), cuts=1)


def without_end(tokens: list[dict[str, Any]], answer: str) -> list[dict[str, Any]]:
    """The tokens without the one that ends the turn, which is no part of the answer's text."""
    has_end = bool(tokens) and not answer.rstrip().endswith(tokens[-1]["text"].strip())
    return tokens[:-1] if has_end else tokens


def blamed_lines(tokens: Sequence[dict[str, Any]], colors: dict[str, str]) -> list[str]:
    """The answer in runs of tokens of one version: its id, then the words."""
    lines = []
    for commit, run in groupby(tokens, key=lambda token: token["commit"]):
        text = harmless("".join(token["text"] for token in run)).replace("\n", " ")
        lines.append(f"{_name(commit, colors)}  {click.style(text.strip(), fg=colors.get(commit))}")
    return lines


def _name(commit: str, colors: dict[str, str]) -> str:
    return click.style(
        BASE.ljust(SHORT) if commit == BASE else commit[:SHORT], fg=colors.get(commit), dim=commit == BASE
    )


def _row(ancestor: dict[str, Any], colors: dict[str, str]) -> tuple[str, ...]:
    gain = f"{ancestor['gain']:+.1f} nats" if ancestor["tokens"] and ancestor["id"] != BASE else ""
    return (
        _name(ancestor["id"], colors),
        one_line(ancestor["message"]),
        count(ancestor["tokens"], "token"),
        click.style(gain, dim=True),
    )
