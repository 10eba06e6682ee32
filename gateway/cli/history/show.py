"""`bread show`: one version with everything that is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gateway.cli.history.commits import message_of, refs_of
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import show_fields, show_json
from gateway.cli.session import Session, path_of
from gateway.cli.text import harmless, moment, one_line

MEASURES = {
    "eval_kl_before": "KL before",
    "eval_kl": "KL after",
    "recovered": "recovered",
    "agreement": "same token",
    "drift": "drift",
}
"""Key of an evaluation -> its name. KL is to the prompted teacher, in nats per token."""
SHARES = {"recovered", "agreement"}


@click.command()
@version_argument("ref")
@repo_option
@json_option
@pass_session
def show(session: Session, /, ref: str, repo: str | None, as_json: bool) -> None:
    """Show one version: what it is, measured and was made of."""
    version = session.version(ref, repo)
    commit = session.client.get(path_of(version.repo, "commits", version.rev))
    if as_json:
        show_json(commit)
        return
    click.echo(f"{click.style(commit['id'], fg='yellow')} {refs_of(commit)}".rstrip())
    parents = ", ".join(
        parent["id"][:12] + (f" ({parent['weight']:g})" if parent["weight"] != 1 else "")
        for parent in commit["parents"]
    )
    show_fields(
        [
            ("model", one_line(commit["model"] or "its weights are not here")),
            ("made", f"{one_line(commit['kind'])} by {one_line(commit['author'])}, {moment(commit['created'])}"),
            ("from", parents or "the base model"),
            ("adapter", commit["adapter"][:12]),
            ("base", commit["base"][:12]),
            *_measured((commit.get("notes") or {}).get("evaluation")),
        ]
    )
    click.echo()
    for line in harmless(commit["message"] or message_of(commit)).splitlines():
        click.echo(f"    {line}")
    if isinstance(recipe := commit.get("recipe"), dict):
        _show_recipe(recipe)


def _measured(evaluation: Any) -> list[tuple[str, str]]:
    if not isinstance(evaluation, Mapping):
        return []
    numbers = {name: evaluation.get(name) for name in MEASURES}
    return [
        (MEASURES[name], f"{value:.1%}" if name in SHARES else f"{value:.3f}")
        for name, value in numbers.items()
        if isinstance(value, int | float)
    ]


def _show_recipe(recipe: Mapping[str, Any]) -> None:
    """The prompts in words, and how many questions each target asked."""
    for name, prompt in (recipe.get("prompts") or {}).items():
        messages = prompt if isinstance(prompt, list) else (prompt or {}).get("messages") or []
        click.secho(f"\nprompt {one_line(name)}", dim=True)
        for message in messages:
            content = message.get("content")
            if content:
                click.echo(f"    {click.style(one_line(message['role']), dim=True)}  {one_line(str(content))}")
