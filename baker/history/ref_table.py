"""Rows of branches, tags and HEAD. A bake's name is a ref too, but its moves are in `storage/checkpoint_table.py`."""

import time
from enum import StrEnum

import msgspec

from baker.storage.rows import Row, Rows

HEAD = "HEAD"
"""Name of the row whose target is the name of the current branch."""


class RefKind(StrEnum):
    BRANCH = "branch"
    TAG = "tag"
    HEAD = "head"
    REMOTE = "remote"
    """A name as another server had it when it was last asked: `<remote>/<name>`. It can't be chatted with."""


class Ref(msgspec.Struct, frozen=True):
    name: str
    kind: RefKind
    target: str
    """Id of a commit; for HEAD the name of a branch."""
    message: str = ""
    created: int = 0
    """Unix seconds, like `updated`."""
    updated: int = 0


class RefTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def put(self, user: str, repo: str, ref: Ref) -> None:
        """Add the ref, or give the one of that name another target, kind and message."""
        now = int(time.time())
        row = {**msgspec.to_builtins(ref), "created": ref.created or now, "updated": now}
        self._rows.insert("refs", {"user": user, "repo": repo, **row}, replace=True)

    def find(self, user: str, repo: str, name: str) -> Ref | None:
        row = self._rows.one("select * from refs where user = ? and repo = ? and name = ?", user, repo, name)
        return None if row is None else _ref(row)

    def of_repo(self, user: str, repo: str) -> list[Ref]:
        """By name."""
        rows = self._rows.all("select * from refs where user = ? and repo = ? order by name", user, repo)
        return [_ref(row) for row in rows]

    def remove(self, user: str, repo: str, name: str) -> bool:
        return self._rows.execute("delete from refs where user = ? and repo = ? and name = ?", user, repo, name) > 0


def _ref(row: Row) -> Ref:
    return msgspec.convert({name: row[name] for name in Ref.__struct_fields__}, Ref)
