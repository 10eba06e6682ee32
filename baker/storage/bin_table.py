"""The bin: jobs and checkpoints that are deleted, and can be brought back. Rules are in `repos/recycle_bin.py`.

Their rows stay in the tables `jobs` and `checkpoints`, marked as deleted, with the number of the operation that deleted
them. Nothing else reads them then, and no new checkpoint gets the name of one.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from baker.status import Stage
from baker.storage.rows import Row, Rows


class Binned(NamedTuple):
    """A job in the bin."""

    operation: int
    """Number of the operation that deleted it."""
    user: str
    repo: str
    stage: Stage
    name: str
    """Name of the bake or target."""
    job: int
    deleted: int
    """Unix seconds."""


class BinTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def put(self, jobs: Sequence[int], operation: int) -> None:
        """Mark the jobs and their checkpoints. No name means these checkpoints any more."""
        now = int(time.time())
        for job in jobs:
            self._rows.execute("update jobs set deleted = ?, bin = ? where id = ?", now, operation, job)
            self._rows.execute(
                "update checkpoints set deleted = ?, bin = ?, moved = null where job_id = ? and deleted is null",
                now,
                operation,
                job,
            )

    def restore(self, operation: int) -> list[int]:
        """Take out what the operation deleted. Returns: the numbers of the jobs."""
        restored = [row["id"] for row in self._rows.all("select id from jobs where bin = ? order by id", operation)]
        for table in ("jobs", "checkpoints"):
            self._rows.execute(f"update {table} set deleted = null, bin = null where bin = ?", operation)
        return restored

    def drop(self, jobs: Sequence[int]) -> None:
        """Give up the jobs and their checkpoints: they are deleted for good. `records.sweep` removes their rows."""
        for job in jobs:
            self._rows.execute("update checkpoints set bin = null where job_id = ?", job)
            self._rows.execute("update jobs set bin = null where id = ?", job)

    def all(self) -> list[Binned]:
        """Jobs of all users, oldest operation first."""
        return self._binned("bin is not null")

    def of_repo(self, user: str, repo: str) -> list[Binned]:
        return self._binned("bin is not null and user = ? and repo = ?", user, repo)

    def commits(self, user: str, repo: str) -> set[str]:
        """Ids of the commits of the checkpoints in the bin."""
        where = "bin is not null and user = ? and repo = ? and commit_id is not null"
        return {
            row["commit_id"] for row in self._rows.all(f"select commit_id from checkpoints where {where}", user, repo)
        }

    def _binned(self, where: str, *parameters: str) -> list[Binned]:
        rows = self._rows.all(f"select * from jobs where {where} order by bin, id", *parameters)
        return [_binned(row) for row in rows]


def _binned(row: Row) -> Binned:
    return Binned(row["bin"], row["user"], row["repo"], Stage(row["stage"]), row["name"], row["id"], row["deleted"])
