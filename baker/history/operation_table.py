"""Rows of operations: an append-only log of who changed which name, config or pointer, from what to what."""

import time
from typing import Any, Literal, NamedTuple

import msgspec

from baker.storage.rows import Row, Rows, to_json

ChangeKind = Literal[
    "bake", "branch", "tag", "head", "remote", "prompt", "target", "bake-config", "template", "probe", "commit"
]
"""What changed: `bake` is the pointer of a bake's name (see `repos/pointers.py`), `commit` whether a commit is here."""

POINTERS: tuple[ChangeKind, ...] = ("bake", "branch", "tag", "head")

PURGED = {"removed": True}
"""What an operation has in place of a value that was removed for good."""


class Change(msgspec.Struct, frozen=True):
    """One thing that an operation changed."""

    kind: ChangeKind
    name: str
    before: Any
    """JSON; None: it did not exist."""
    after: Any
    """JSON; None: it no longer exists."""


class Operation(msgspec.Struct, frozen=True):
    id: int
    verb: str
    """`bake`, `promote`, `branch`, `tag`, `put-prompt`, `delete-bake`, `undo`, ..."""
    changes: list[Change]
    by: str
    """Id of the user who asked for it."""
    created: int
    """Unix seconds."""
    target: int | None = None
    """Number of the operation that an `undo` or `redo` is about."""
    is_undoable: bool = True


class PointerMove(NamedTuple):
    """What an operation changed of a pointer, without the rest of its values."""

    kind: ChangeKind
    """One of POINTERS."""
    name: str
    before: str | None
    """Id of the commit that it meant; for HEAD, the branch's name; None: nothing."""
    after: str | None


class OperationTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def add(
        self,
        user: str,
        repo: str,
        verb: str,
        changes: list[Change],
        *,
        by: str,
        target: int | None = None,
        is_undoable: bool = True,
        created: int | None = None,
    ) -> int:
        """Append an operation, in the transaction that makes its changes. Returns: its number.

        Args: created: Unix seconds; None: now.
        """
        row = {
            "user": user,
            "repo": repo,
            "verb": verb,
            "changes": to_json(changes),
            "by": by,
            "created": int(time.time()) if created is None else created,
            "target": target,
            "is_undoable": is_undoable,
        }
        number = self._rows.insert("operations", row)
        self._add_moves(user, repo, number, changes)
        return number

    def _add_moves(self, user: str, repo: str, number: int, changes: list[Change]) -> None:
        for place, change in enumerate(changes):
            if change.kind in POINTERS:
                values = change.kind, change.name, target_of(change.before), target_of(change.after)
                self._rows.execute(
                    "insert into moves values (?, ?, ?, ?, ?, ?, ?, ?)", user, repo, number, place, *values
                )

    def moves(self, user: str, repo: str) -> list[PointerMove]:
        """The changes of pointers in all operations, oldest first."""
        rows = self._rows.all(
            "select kind, name, before, after from moves where user = ? and repo = ? order by operation, place",
            user,
            repo,
        )
        return [PointerMove(**row) for row in rows]

    def of_repo(self, user: str, repo: str) -> list[Operation]:
        """Oldest first."""
        rows = self._rows.all("select * from operations where user = ? and repo = ? order by id", user, repo)
        return [_operation(row) for row in rows]

    def since(self, user: str, repo: str, created: float) -> list[Operation]:
        """Those later than `created` (Unix seconds), oldest first."""
        where = "user = ? and repo = ? and created > ?"
        rows = self._rows.all(f"select * from operations where {where} order by id", user, repo, created)
        return [_operation(row) for row in rows]

    def outline(self, user: str, repo: str) -> list[Operation]:
        """Oldest first, without their changes, which may be long texts: enough for `undo_stack.stacks`."""
        rows = self._rows.all(
            "select id, verb, by, created, target, is_undoable from operations where user = ? and repo = ? order by id",
            user,
            repo,
        )
        return [Operation(**{**row, "changes": [], "is_undoable": bool(row["is_undoable"])}) for row in rows]

    def find(self, user: str, repo: str, number: int) -> Operation | None:
        row = self._rows.one("select * from operations where user = ? and repo = ? and id = ?", user, repo, number)
        return None if row is None else _operation(row)

    def get(self, user: str, repo: str, number: int) -> Operation:
        """Raises: LookupError if there is no such operation."""
        operation = self.find(user, repo, number)
        if operation is None:
            raise LookupError(f"Repo {repo!r} of {user!r} has no operation {number}")
        return operation

    def page(self, user: str, repo: str, limit: int, before: int | None) -> list[Operation]:
        """The newest `limit` operations with a number below `before` (None: any), newest first."""
        rows = self._rows.all(
            "select * from operations where user = ? and repo = ? and id < coalesce(?, id + 1) "
            "order by id desc limit ?",
            user,
            repo,
            before,
            limit,
        )
        return [_operation(row) for row in rows]

    def touching(self, user: str, repo: str, kind: ChangeKind, name: str) -> list[Operation]:
        """Operations that changed this thing, oldest first."""
        if kind in POINTERS:
            numbers = "select operation from moves where user = ? and repo = ? and kind = ? and name = ?"
        else:
            numbers = (
                "select operations.id from operations, json_each(operations.changes) as change where user = ? "
                "and repo = ? and change.value ->> 'kind' = ? and change.value ->> 'name' = ?"
            )
        rows = self._rows.all(f"select * from operations where id in ({numbers}) order by id", user, repo, kind, name)
        return [_operation(row) for row in rows]

    def replace_changes(self, number: int, changes: list[Change]) -> None:
        """For the operation of a bake that still trains (see `recorder.Recorder.record_more`), and for `purge`."""
        self._rows.execute("update operations set changes = ? where id = ?", to_json(changes), number)
        row = self._rows.one("select user, repo from operations where id = ?", number)
        if row is not None:
            place = row["user"], row["repo"]
            self._rows.execute("delete from moves where user = ? and repo = ? and operation = ?", *place, number)
            self._add_moves(*place, number, changes)

    def purge(self, operation: Operation, kind: ChangeKind, name: str) -> None:
        """Replace the values of this thing in the operation, which can't be undone after that."""
        changes = [
            Change(kind, name, *(value and PURGED for value in (change.before, change.after)))
            if (change.kind, change.name) == (kind, name)
            else change
            for change in operation.changes
        ]
        self.replace_changes(operation.id, changes)
        self.forbid_undo(operation.id)

    def forbid_undo(self, number: int) -> None:
        """Mark the operation as one that can't be undone any more, because what it needs is gone."""
        self._rows.execute("update operations set is_undoable = 0 where id = ?", number)


def target_of(value: Any) -> str | None:
    """What a pointer meant by the `before` or `after` of its change: an id of a commit; for HEAD, a branch's name."""
    match value:
        case str():
            return value
        case {"target": str() as target} | {"commit": str() as target}:
            return target
    return None


def _operation(row: Row) -> Operation:
    fields = {name: row[name] for name in Operation.__struct_fields__}
    decoded = {**fields, "changes": msgspec.json.decode(row["changes"]), "is_undoable": bool(row["is_undoable"])}
    return msgspec.convert(decoded, Operation)
