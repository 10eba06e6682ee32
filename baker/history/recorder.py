"""Appends operations to the log: from where they are made, with the user who asked for them.

Call `record` in the transaction that makes the change, after its writes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from baker.history.operation_table import Change, Operation, OperationTable
from baker.names import MASTER_USER

is_master: ContextVar[bool] = ContextVar("is_master", default=False)
"""Whether the master key asked for what runs now, for whichever user. `storage/one_thread.py` hands it on."""


class Recorder:
    def __init__(self, operations: OperationTable) -> None:
        self._operations = operations
        self._together: list[Change] | None = None
        """What `as_one` collects; None outside of it."""

    def record(
        self,
        user: str,
        repo: str,
        verb: str,
        changes: Sequence[Change],
        *,
        target: int | None = None,
        is_undoable: bool = True,
    ) -> int | None:
        """Append an operation. Changes that change nothing are left out, and without any there is no operation.

        Returns: its number; None if there is none, or within `as_one`, which appends one for all.
        """
        if self._together is not None:
            self._together += changes
            return None
        changed = composed(changes)
        if not changed:
            return None
        by = MASTER_USER if is_master.get() else user
        return self._operations.add(user, repo, verb, changed, by=by, target=target, is_undoable=is_undoable)

    @contextmanager
    def as_one(self, user: str, repo: str, verb: str) -> Iterator[None]:
        """Append one operation for all that the block records. Call it in a transaction that holds the whole block."""
        if self._together is not None:
            yield
            return
        together = self._together = []
        try:
            yield
        finally:
            self._together = None
        self.record(user, repo, verb, together)

    @contextmanager
    def unless_it_fails(self) -> Iterator[None]:
        """Within `as_one`: forget what the block recorded if it raises. The block is a transaction of its own."""
        count = 0 if self._together is None else len(self._together)
        try:
            yield
        except BaseException:
            if self._together is not None:
                del self._together[count:]
            raise

    def record_more(self, operation: Operation, changes: Sequence[Change]) -> None:
        """Let the operation of a bake that still trains change more: it has the first value and the latest one."""
        self._operations.replace_changes(operation.id, composed([*operation.changes, *changes]))


def composed(changes: Sequence[Change]) -> list[Change]:
    """One change for each thing that changed: from the value before the first to the one after the last."""
    by_thing: dict[tuple[str, str], Change] = {}
    for change in changes:
        key = change.kind, change.name
        first = by_thing.get(key, change)
        by_thing[key] = Change(change.kind, change.name, first.before, change.after)
    encode = msgspec.json.Encoder(order="sorted").encode  # to Python, true is 1
    return [change for change in by_thing.values() if encode(change.before) != encode(change.after)]
