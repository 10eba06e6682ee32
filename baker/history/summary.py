"""One plain line about an operation: `promote yoda: 64 -> 128`."""

from collections.abc import Mapping
from typing import Any

from baker.history.operation_table import Change, Operation
from baker.history.undo_stack import DISCARD, REDO, UNDO

NOUNS = {"prompt": "prompt", "target": "target", "bake-config": "bake", "template": "template", "probe": "probe"}
"""Kind of a change to content -> the word for it."""
MOVES = ("bake", "import", "promote", "rollback", DISCARD)
"""Verbs that are about a name, whatever else they change."""
MOST_NAMES = 3


def summary(operation: Operation, by_number: Mapping[int, Operation]) -> str:
    """Args: by_number: operations that this one may be about."""
    if operation.verb in (UNDO, REDO):
        about = by_number.get(operation.target or 0)
        return f"{operation.verb} {operation.target}" + ("" if about is None else f" ({summary(about, by_number)})")
    if operation.verb == "gc":
        count = len(operation.changes)
        return f"gc: {count} version{'' if count == 1 else 's'} removed"
    moves = [change for change in operation.changes if change.kind in ("bake", "branch", "tag", "head", "remote")]
    if moves and (operation.verb in MOVES or len(moves) == len(operation.changes)):
        return f"{operation.verb} {', '.join(map(_move, moves))}"
    contents = [change for change in operation.changes if change.kind in NOUNS]
    # A target's templates come with it.
    main = [change for change in contents if change.kind != "template"] or contents
    if not main:
        return operation.verb
    verb = "change" if all(change.before is not None and change.after is not None for change in main) else None
    verb = verb or ("delete" if all(change.after is None for change in main) else "put")
    noun = NOUNS[main[0].kind] + ("" if len(main) == 1 else "s")
    return f"{verb} {noun} {_names([change.name for change in main])}"


def _names(names: list[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _move(change: Change) -> str:
    if change.kind == "tag" and change.before is None:
        return f"{change.name}: {_shown(change.after)}"
    return f"{change.name}: {_shown(change.before)} -> {_shown(change.after)}"


def _shown(value: Any) -> str:
    """A pointer's step, a ref's commit, HEAD's branch."""
    if value is None:
        return "nothing"
    if not isinstance(value, dict):
        return str(value)[:12]
    if "step" in value:
        return str(value["step"])
    target = str(value.get("commit") or value.get("target") or value.get("branch") or "?")
    return target if value.get("kind") == "head" else target[:12]
