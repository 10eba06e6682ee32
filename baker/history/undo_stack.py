"""Which operation `undo` takes back next, and which one `redo` brings back: decided from the log alone. Pure.

As in jj: each undo steps one operation further back, each redo one forward, and a new operation clears what redo could
bring back. An operation that can't be undone stops a plain undo, which says so and changes nothing: silently taking
back an older one would surprise. An undo that names an older operation passes over it. A fetch is no step at all: it
only notes what another server has.
"""

from collections.abc import Iterable
from typing import NamedTuple

from baker.errors import ConflictError, NotFoundError
from baker.history.operation_table import Operation

UNDO, REDO, DISCARD = "undo", "redo", "discard"
"""Verbs of the operations that have a `target`. `discard` takes an operation back for good."""


NOTES = ("fetch", "remote-remove")
"""Verbs that only note what another server has."""
PUSH = "push"


class Entry(NamedTuple):
    operation: Operation
    """What a user did."""
    applied: Operation
    """What last did, or took back, just that: the operation itself, or an undo or redo of it."""

    @property
    def is_possible(self) -> bool:
        return self.operation.is_undoable and self.applied.is_undoable


class Stacks(NamedTuple):
    """Both with the next one last."""

    undo: list[Entry]
    redo: list[Entry]


def stacks(operations: Iterable[Operation]) -> Stacks:
    """Args: operations: of one repo, oldest first."""
    undo: list[Entry] = []
    redo: list[Entry] = []
    for operation in operations:
        match operation.verb:
            case "undo":
                entry = _pop_to(undo, operation.target)
                redo.append(Entry(entry.operation, operation))
            case "redo":
                entry = _pop_to(redo, operation.target)
                undo.append(Entry(entry.operation, operation))
            case "discard" if operation.target is not None:
                undo[:] = [entry for entry in undo if entry.operation.id != operation.target]
            case _ if operation.verb in NOTES:
                pass
            case _:
                undo.append(Entry(operation, operation))
                redo.clear()
    return Stacks(undo, redo)


def _pop_to(stack: list[Entry], number: int | None) -> Entry:
    """Pop entries until the one of this operation, which is returned."""
    while (entry := stack.pop()).operation.id != number:
        pass
    return entry


def steps(operations: Iterable[Operation], verb: str, number: int | None = None) -> list[Entry]:
    """The operations that an undo or redo (`verb`) steps over, in order.

    Args: number: of the last one; None: one step. Those in between that can't be undone are left out.
    Raises: ConflictError if there is nothing to step over, or the one in question can't be undone; NotFoundError if no
        operation in that direction has the number.
    """
    stack = getattr(stacks(operations), verb)[::-1]
    if not stack:
        raise ConflictError(f"There is nothing to {verb}")
    if number is None:
        if not stack[0].is_possible:
            raise ConflictError(_refusal(stack[0], verb, next((each for each in stack if each.is_possible), None)))
        return [stack[0]]
    found = next((place for place, entry in enumerate(stack) if entry.operation.id == number), None)
    if found is None:
        known = ", ".join(str(entry.operation.id) for entry in stack[:5])
        raise NotFoundError(f"There is no operation {number} to {verb}. Next are: {known}")
    if not stack[found].is_possible:
        possible = next((each for each in stack[found:] if each.is_possible), None)
        raise ConflictError(_refusal(stack[found], verb, possible))
    return [entry for entry in stack[: found + 1] if entry.is_possible]


def _refusal(entry: Entry, verb: str, possible: Entry | None) -> str:
    number = entry.operation.id
    why = "another server received it" if entry.operation.verb == PUSH else "what it changed was removed for good"
    text = f"Operation {number} ({entry.operation.verb}) can't be {'undone' if verb == UNDO else 'done again'}: {why}"
    if possible is None:
        return f"{text}, and there is none before it that can"
    return f'{text}. To {verb} operation {possible.operation.id} instead, send {{"operation": {possible.operation.id}}}'
