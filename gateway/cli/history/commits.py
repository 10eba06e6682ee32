"""How the history's verbs show a commit: id, names, message and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from gateway.cli import proof
from gateway.cli.text import one_line

SHORT = 7
"""Digits of an id, as in git. Where two ids of an answer begin alike, more are shown."""

Commit = Mapping[str, Any]
COLORS = {"bake": "green", "branch": "cyan", "tag": "magenta", "remote": "red"}


def digits_for(ids: Sequence[str]) -> int:
    """How many digits tell these ids apart; at least SHORT."""
    digits = SHORT
    while digits < 64 and len({each[:digits] for each in ids}) < len(set(ids)):
        digits += 1
    return digits


def styled_id(commit_id: str, digits: int = SHORT) -> str:
    return click.style(commit_id[:digits], fg="yellow")


def message_of(commit: Commit) -> str:
    """The first line of its message, or what it is."""
    first = next(iter((commit.get("message") or "").strip().splitlines()), "")
    return one_line(first) or f"({one_line(str(commit['kind']))})"


def refs_of(commit: Commit) -> str:
    """`(HEAD -> main, yoda, tag: v1)`, in colours; empty without refs.

    A merge that was held back says so; without refs it also says by which revision it can be reached.
    """
    order = {"branch": 0, "bake": 1, "tag": 2, "remote": 3}
    known = commit.get("refs") or []
    refs = sorted(known, key=lambda ref: (not ref.get("is_head"), order.get(ref["kind"], 9), ref["name"]))
    parts = [_ref(ref) for ref in refs]
    if proof.is_held_back(commit):
        names = str(commit.get("model") or "").split("/")[2:]
        parts.append(
            click.style("held back" if refs or not names else f"held back: {one_line('/'.join(names))}", fg="red")
        )
    return f"({', '.join(parts)})" if parts else ""


def _ref(ref: Mapping[str, Any]) -> str:
    name = one_line(ref["name"])
    prefix = "HEAD -> " if ref.get("is_head") else "tag: " if ref["kind"] == "tag" else ""
    return click.style(f"{prefix}{name}", fg=COLORS.get(ref["kind"]))


def evaluation_of(commit: Commit) -> str:
    """`recovered 92%  drift 0.012`: what its bake measured, as far as it is known; for a merge its proof."""
    if proof.proof_of(commit) is not None:
        return proof.one_line_of(commit)
    measured = (commit.get("notes") or {}).get("evaluation") or {}
    parts = []
    if isinstance(recovered := measured.get("recovered"), int | float):
        parts.append(f"recovered {recovered:.0%}")
    elif isinstance(kl := measured.get("eval_kl"), int | float):
        parts.append(f"KL {kl:.3f}")
    if isinstance(drift := measured.get("drift"), int | float):
        parts.append(f"drift {drift:.3f}")
    return "  ".join(parts)
