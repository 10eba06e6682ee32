"""How the proof of a merge looks: what is left of each version, the conflict, the drift, and the verdict.

A commit's proof is its note `merge`. Another server may have sent that, in any form: what is not a number is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from gateway.cli.output import GAP
from gateway.cli.text import one_line

Proof = Mapping[str, Any]
HELD_BACK, UNVERIFIED = "held_back", "unverified"


def proof_of(commit: Mapping[str, Any]) -> Proof | None:
    """The proof beside a commit; None if it is no merge, or was sent without its proof."""
    proof = (commit.get("notes") or {}).get("merge")
    return proof if isinstance(proof, Mapping) else None


def one_line_of(commit: Mapping[str, Any]) -> str:
    """`retention 0.94/0.97  drift 0.031  distill 60 steps`; empty without a proof."""
    if (proof := proof_of(commit)) is None:
        return ""
    kept: list[str] = []
    removed: list[str] = []
    for each in _retention(proof).values():
        (removed if each.get("is_removed") else kept).append(_rounded(each.get("retention")))
    parts = [f"retention {'/'.join(kept)}"] if kept else []
    parts += [f"of the reverted {'/'.join(removed)}"] if removed else []
    if (drift := _number(proof.get("drift"))) is not None:
        parts.append(f"drift {drift:.3f}")
    if proof.get("verdict") == UNVERIFIED:
        parts.append("unverified")
    if proof.get("strategy") != "algebra" and (how := _how(proof, commit.get("model"))):
        parts.append(how)
    return GAP.join(parts)


class Side(NamedTuple):
    """A version that a merge added up."""

    label: str
    commit: str


def sides_of(proof: Proof) -> list[Side]:
    sides = proof.get("sides")
    return [
        Side(one_line(each["label"], 40), each["commit"])
        for each in (sides if isinstance(sides, list) else [])
        if isinstance(each, Mapping) and isinstance(each.get("label"), str) and isinstance(each.get("commit"), str)
    ]


def is_held_back(commit: Mapping[str, Any]) -> bool:
    """Whether the merge failed its gate."""
    return (proof_of(commit) or {}).get("verdict") in (HELD_BACK, UNVERIFIED)


def fields_of(commit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of what was measured, for `bread show`; empty without a proof."""
    if (proof := proof_of(commit)) is None:
        return []
    fields = [("strategy", _how(proof, commit.get("model"))), ("rank", _rank(proof))]
    if isinstance(conflict := proof.get("conflict"), Mapping):
        fields.append(("conflict", conflict_text(conflict)))
    if (drift := _number(proof.get("drift"))) is not None:
        limit = _number(proof.get("drift_limit"))
        fields.append(("drift", f"{drift:.3f}" + ("" if limit is None else f", at most {limit:.3f}")))
    return [*fields, ("verdict", _verdict(proof))]


def rows_of(proof: Proof) -> list[tuple[str, ...]]:
    """A row for each version: what is left of it, the interval, the agreement, and what the sum alone had kept."""
    rows: list[tuple[str, ...]] = []
    for label, each in _retention(proof).items():
        what = "still there" if each.get("is_removed") else "left"
        low, high = _number(each.get("low")), _number(each.get("high"))
        agreement, own = _number(each.get("agreement")), _number(each.get("agreement_own"))
        began = _number((proof.get("algebra") or {}).get(label))
        rows.append(
            (
                f"  {one_line(str(label), 40)}",
                f"{_rounded(each.get('retention'))} {what}",
                "" if low is None or high is None else f"[{low:.2f}, {high:.2f}]",
                "" if agreement is None or own is None else f"agrees at {agreement:.0%} of {own:.0%}",
                "" if began is None else f"sum alone: {began:.2f}",
            )
        )
    return rows


def conflict_text(conflict: Mapping[str, Any]) -> str:
    """`12% of 340 changed tokens`; empty if nothing changed."""
    share, moved = _number(conflict.get("share")), _number(conflict.get("moved"))
    if share is None or not moved:
        return ""
    where = "" if conflict.get("has_equal_contexts") else ", but after different prompts"
    return f"{share:.0%} of {moved:.0f} changed tokens{where}"


def _how(proof: Proof, model: str | None) -> str:
    """`algebra`, or `distill 60 steps`."""
    strategy = proof.get("strategy")
    if not isinstance(strategy, str):
        return ""
    step = (model or "").rpartition("/")[2]
    steps = f" {step} steps" if strategy != "algebra" and step not in ("", "0") else ""
    return f"{one_line(strategy, 20)}{steps}"


def _rank(proof: Proof) -> str:
    rank, full, lost = (_number(proof.get(name)) for name in ("rank", "full_rank", "energy_lost"))
    if rank is None:
        return ""
    if full is None or full <= rank:
        return f"{rank:.0f}"
    return f"{rank:.0f}, cut from {full:.0f}" + ("" if lost is None else f" ({lost:.1%} of the energy)")


def _verdict(proof: Proof) -> str:
    failures = proof.get("failures")
    reasons = "; ".join(one_line(str(each)) for each in failures) if isinstance(failures, list) else ""
    match proof.get("verdict"):
        case "passed":
            return click.style("passed", fg="green")
        case "held_back":
            return click.style("held back", fg="red") + (f": {reasons}" if reasons else "")
        case "unverified":
            return click.style("unverified", fg="yellow") + ": none of the versions had held-out rows to measure it on"
    return ""


def _retention(proof: Proof) -> Mapping[str, Mapping[str, Any]]:
    by_label = proof.get("retention")
    if not isinstance(by_label, Mapping):
        return {}
    return {label: each for label, each in by_label.items() if isinstance(each, Mapping)}


def _rounded(value: Any) -> str:
    return "-" if (number := _number(value)) is None else f"{number:.2f}"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
