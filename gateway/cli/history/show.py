"""`bread show`: one version with everything that is known about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from gateway.cli import proof
from gateway.cli.history.commits import message_of, refs_of
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import padded, show_fields, show_json, show_paragraph, show_table
from gateway.cli.session import Session, path_of
from gateway.cli.text import harmless, moment, one_line

MEASURES = {
    "eval_kl_before": "KL before",
    "eval_kl": "KL after",
    "recovered": "recovered",
    "agreement": "agree",
    "drift": "drift",
}
"""Key of an evaluation -> its name. KL is to the prompted teacher, in nats per token."""
SPEAKER = len("assistant")
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
    merge = proof.proof_of(commit)
    labels = {} if merge is None else {side.commit: side.label for side in proof.sides_of(merge)}
    parents = ", ".join(_parent(parent, labels) for parent in commit["parents"])
    show_fields(
        [
            ("model", one_line(commit["model"] or "its weights are not here")),
            ("made", f"{one_line(commit['kind'])} by {one_line(commit['author'])}, {moment(commit['created'])}"),
            ("from", parents or "the base model"),
            *_counted_from(merge),
            ("adapter", commit["adapter"][:12]),
            ("base", commit["base"][:12]),
            *(
                proof.fields_of(commit)
                if merge is not None
                else _measured((commit.get("notes") or {}).get("evaluation"))
            ),
        ]
    )
    show_table((), [] if merge is None else proof.rows_of(merge))
    click.echo()
    for line in harmless(commit["message"] or message_of(commit)).splitlines():
        click.echo(f"    {line}")
    if isinstance(recipe := commit.get("recipe"), dict):
        _show_recipe(recipe)


def _parent(parent: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """`c0ffee100000 pirate (0.5)`: the weight unless it is 1."""
    label = labels.get(parent["id"], "")
    weight = f"({parent['weight']:g})" if parent["weight"] != 1 else ""
    return " ".join(filter(None, (parent["id"][:12], label if not parent["id"].startswith(label) else "", weight)))


def _counted_from(merge: proof.Proof | None) -> list[tuple[str, str]]:
    """The merge base; for a revert or cherry-pick also the other version, which is no parent."""
    if merge is None or len(sides := proof.sides_of(merge)) < 2:
        return []
    base = one_line(str(merge.get("base") or ""))[:12] or "the base model"
    if merge.get("kind") == "merge":
        return [("merge base", base)]
    verb, other = "takes out" if merge.get("kind") == "revert" else "picks", sides[1]
    return [(verb, f"{one_line(other.commit)[:12]} {other.label}, counted from {base}")]


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
    """For each target: its prompts in words, and who answered."""
    for name, target in (recipe.get("targets") or {}).items():
        answered_by = (target.get("config") or {}).get("model_name") or "the base model"
        click.secho(f"\ntarget {one_line(name)}, answered by {one_line(answered_by)}", dim=True)
        for role in ("teacher", "student"):
            messages = (target.get(role) or {}).get("messages") or []
            rows = [(click.style(one_line(each["role"]), dim=True), _content(each)) for each in messages]
            if rows:
                click.secho(f"  {role}", dim=True)
                for speaker, content in rows:
                    show_paragraph(f"    {padded(speaker, SPEAKER)}  ", [(content, None)])


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return one_line(content if isinstance(content, str) else json.dumps(content))
