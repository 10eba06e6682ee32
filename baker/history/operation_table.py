"""Rows of operations: an append-only log of who changed which name, config or pointer, from what to what."""

import time
from typing import Any, Literal

import msgspec

from baker.storage.rows import Row, Rows, to_json

ChangeKind = Literal["bake", "branch", "tag", "head", "remote", "prompt", "target", "bake-config", "template", "probe"]
"""What changed: `bake` is the pointer of a bake's name."""


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
    ) -> int:
        """Append an operation, in the transaction that makes its changes. Returns: its number."""
        row = {
            "user": user,
            "repo": repo,
            "verb": verb,
            "changes": to_json(changes),
            "by": by,
            "created": int(time.time()),
            "target": target,
            "is_undoable": is_undoable,
        }
        return self._rows.insert("operations", row)

    def moves(self, user: str, repo: str) -> list[Change]:
        """The changes of pointers (bakes, branches, tags, HEAD) in all operations, oldest first."""
        rows = self._rows.all(
            "select change.value as value from operations, json_each(operations.changes) as change "
            "where user = ? and repo = ? and change.value ->> 'kind' in ('bake', 'branch', 'tag', 'head') "
            "order by operations.id, change.key",
            user,
            repo,
        )
        return [msgspec.json.decode(row["value"], type=Change) for row in rows]

    def of_repo(self, user: str, repo: str) -> list[Operation]:
        """Oldest first."""
        rows = self._rows.all("select * from operations where user = ? and repo = ? order by id", user, repo)
        return [_operation(row) for row in rows]


def _operation(row: Row) -> Operation:
    fields = {name: row[name] for name in Operation.__struct_fields__}
    decoded = {**fields, "changes": msgspec.json.decode(row["changes"]), "is_undoable": bool(row["is_undoable"])}
    return msgspec.convert(decoded, Operation)
