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

    def served_by(self, user: str, repo: str, bake: str | None = None) -> list[tuple[str, str]]:
        """(repo, name) of the user's branches and tags that mean a checkpoint of the repo, or only of one bake."""
        rows = self._rows.all(
            "select distinct refs.repo, refs.name from refs join checkpoints on checkpoints.user = refs.user "
            "and checkpoints.commit_id = refs.target where refs.user = ? and refs.kind in ('branch', 'tag') "
            "and checkpoints.repo = ? and checkpoints.bake = coalesce(?, checkpoints.bake) "
            "and checkpoints.deleted is null order by refs.repo, refs.name",
            user,
            repo,
            bake,
        )
        return [(row["repo"], row["name"]) for row in rows]

    def targets(self, user: str) -> set[str]:
        """Ids of the commits that the user's branches and tags mean."""
        rows = self._rows.all("select target from refs where user = ? and kind in ('branch', 'tag')", user)
        return {row["target"] for row in rows}

    def remove_all(self, user: str) -> None:
        """Remove those of all the user's repos."""
        self._rows.execute("delete from refs where user = ?", user)

    def remove(self, user: str, repo: str, name: str) -> bool:
        return self._rows.execute("delete from refs where user = ? and repo = ? and name = ?", user, repo, name) > 0


def _ref(row: Row) -> Ref:
    return msgspec.convert({name: row[name] for name in Ref.__struct_fields__}, Ref)
