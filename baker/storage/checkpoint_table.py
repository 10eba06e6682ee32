"""Rows of checkpoints, and the moves of their bakes' names. Which name moves is decided in `baker/versions`.

A row that is marked as deleted is in the bin (see `repos/recycle_bin.py`), or stands for a checkpoint that others began
from (see `repos/records.py`). Only the methods that say so read such rows.
"""

import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from baker.storage.rows import Row, Rows
from baker.types import Checkpoint, MovedBy

KEY = "user = ? and repo = ? and bake = ? and step = ?"
IN_HISTORY = "(repo = ? or commit_id in (select id from commits where commits.user = ? and commits.repo = ?))"
"""Of a repo, or with a commit that the repo has too: a bake may begin from another repo's version."""


class Move(NamedTuple):
    """A move of a bake's name."""

    checkpoint: Checkpoint
    """The checkpoint that the name meant from then on."""
    by: MovedBy


class CheckpointTable:
    def __init__(self, rows: Rows, home: Path) -> None:
        """Args: home: folder that the paths in the rows are relative to."""
        self._rows = rows
        self._home = home

    def add(self, checkpoint: Checkpoint, *, moves_name: bool = True) -> None:
        """Add a row; it replaces one of the same name. Args: moves_name: whether the bake's name moves to it."""
        row = msgspec.structs.asdict(checkpoint)
        # Relative to BREAD_HOME, so that it can be moved to another disk or machine.
        row["path"] = str(checkpoint.path.relative_to(self._home))
        self._rows.insert("checkpoints", row, replace=True)
        if moves_name:
            self.move_name(checkpoint, MovedBy.BAKE)

    def move_name(self, checkpoint: Checkpoint, by: MovedBy) -> None:
        """Move the bake's name to this checkpoint, which has a row."""
        self._rows.execute(
            "update checkpoints set moved = (select coalesce(max(moved), 0) + 1 from checkpoints), moved_by = ? "
            "where user = ? and repo = ? and bake = ? and step = ?",
            by,
            checkpoint.user,
            checkpoint.repo,
            checkpoint.bake,
            checkpoint.step,
        )

    def forget_moves(self, user: str, repo: str, bake: str) -> None:
        """The bake's name means nothing from now on."""
        where = "user = ? and repo = ? and bake = ?"
        self._rows.execute(f"update checkpoints set moved = null, moved_by = null where {where}", user, repo, bake)

    def moves(self, user: str, repo: str, bake: str) -> list[Move]:
        """Moves of the bake's name to checkpoints that still exist, latest first. The name means the first."""
        rows = self._rows.all(
            "select * from checkpoints where user = ? and repo = ? and bake = ? and moved is not null "
            "order by moved desc",
            user,
            repo,
            bake,
        )
        return [Move(self._checkpoint(row), MovedBy(row["moved_by"])) for row in rows]

    def moves_in_repo(self, user: str, repo: str) -> list[Checkpoint]:
        """Checkpoints of all bakes of the repo that a name was moved to, latest move first."""
        where = "user = ? and repo = ? and moved is not null"
        rows = self._rows.all(f"select * from checkpoints where {where} order by moved desc", user, repo)
        return [self._checkpoint(row) for row in rows]

    def steps(self, user: str, repo: str) -> list[tuple[str, int]]:
        """(bake, step) of each checkpoint of the repo, newest first."""
        where = "user = ? and repo = ? and deleted is null"
        order = "order by job_id desc, step desc"
        rows = self._rows.all(f"select bake, step from checkpoints where {where} {order}", user, repo)
        return [(row["bake"], row["step"]) for row in rows]

    def live_steps(self, user: str, repo: str) -> dict[str, int]:
        """Bake -> training step of the checkpoint that its name means."""
        where = "user = ? and repo = ? and moved is not null"
        rows = self._rows.all(f"select bake, step from checkpoints where {where} order by moved", user, repo)
        return {row["bake"]: row["step"] for row in rows}

    def all_moved(self) -> list[Checkpoint]:
        """Checkpoints of all bakes that a name was moved to, latest move first."""
        rows = self._rows.all("select * from checkpoints where moved is not null order by moved desc")
        return [self._checkpoint(row) for row in rows]

    def of_bake(self, user: str, repo: str, bake: str) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("user = ? and repo = ? and bake = ?", user, repo, bake)

    def of_repo(self, user: str, repo: str) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("user = ? and repo = ?", user, repo)

    def of_user(self, user: str) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("user = ?", user)

    def all(self) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("true")

    def jobs_of_repo(self, user: str, repo: str) -> dict[tuple[str, int], int]:
        """(bake, step) of each checkpoint of the repo, deleted or not -> number of the job that wrote it."""
        rows = self._rows.all("select bake, step, job_id from checkpoints where user = ? and repo = ?", user, repo)
        return {(row["bake"], row["step"]): row["job_id"] for row in rows}

    def commit_of(self, name: str) -> str | None:
        """Id of the commit of the checkpoint of that full name, deleted or not."""
        user, repo, bake, step = name.split("/")
        row = self._rows.one(f"select commit_id from checkpoints where {KEY}", user, repo, bake, int(step))
        return None if row is None else row["commit_id"]

    def of_commit(self, user: str, repo: str, commit_id: str) -> Checkpoint | None:
        """The checkpoint of that commit; None if its weights are not here."""
        found = self._checkpoints("user = ? and repo = ? and commit_id = ?", user, repo, commit_id)
        return found[0] if found else None

    def bakes_of_commit(self, user: str, repo: str, commit_id: str) -> list[str]:
        """Bakes of the repo with a checkpoint of that commit, deleted or not."""
        where = "user = ? and repo = ? and commit_id = ?"
        rows = self._rows.all(f"select distinct bake from checkpoints where {where}", user, repo, commit_id)
        return [row["bake"] for row in rows]

    def with_weights_of(self, user: str, repo: str, commit_id: str) -> Checkpoint | None:
        """As `of_commit`, but also one of another repo of the user, where a bake of this repo may have begun."""
        found = self._checkpoints("user = ? and commit_id = ?", user, commit_id)
        return min(found, key=lambda each: each.repo != repo, default=None)

    def with_adapter(self, user: str, repo: str, sha256: str) -> Checkpoint | None:
        """A checkpoint of the user with these files: one of the repo, or of a commit that the repo has too."""
        found = self._checkpoints(f"user = ? and {IN_HISTORY} and sha256 = ?", user, repo, user, repo, sha256)
        return min(found, key=lambda each: each.repo != repo, default=None)

    def adapters(self, user: str, repo: str) -> set[str]:
        """The hashes that `with_adapter` finds something for."""
        where = f"user = ? and {IN_HISTORY} and deleted is null"
        rows = self._rows.all(f"select distinct sha256 from checkpoints where {where}", user, repo, user, repo)
        return {row["sha256"] for row in rows}

    def by_commit(self, user: str, repo: str) -> dict[str, str]:
        """Id of a commit -> full name of the user's checkpoint that it describes; one of this repo if there is one."""
        rows = self._rows.all(
            "select commit_id, repo, bake, step from checkpoints "
            "where user = ? and commit_id is not null and deleted is null order by repo = ?",
            user,
            repo,
        )
        return {row["commit_id"]: f"{user}/{row['repo']}/{row['bake']}/{row['step']}" for row in rows}

    def jobs_by_commit(self, user: str, repo: str) -> dict[str, int]:
        """Id of a commit of the repo -> number of the job that wrote its checkpoint, deleted or not."""
        where = "user = ? and repo = ? and commit_id is not null"
        rows = self._rows.all(f"select commit_id, job_id from checkpoints where {where}", user, repo)
        return {row["commit_id"]: row["job_id"] for row in rows}

    def job_of_commit(self, user: str, commit_id: str) -> int | None:
        """Number of the job that wrote the commit's checkpoint, deleted or not."""
        row = self._rows.one("select job_id from checkpoints where user = ? and commit_id = ?", user, commit_id)
        return None if row is None else int(row["job_id"])

    def without_commit(self) -> list[Checkpoint]:
        """Checkpoints of older versions, deleted or not, oldest first."""
        rows = self._rows.all("select * from checkpoints where commit_id is null order by job_id, step")
        return [self._checkpoint(row) for row in rows]

    def set_commit(self, checkpoint: Checkpoint) -> None:
        """Store the checkpoint's `commit_id`."""
        key = checkpoint.user, checkpoint.repo, checkpoint.bake, checkpoint.step
        self._rows.execute(f"update checkpoints set commit_id = ? where {KEY}", checkpoint.commit_id, *key)

    def deleted(self) -> dict[str, int]:
        """Name of each checkpoint that is deleted and not in the bin -> number of the job that wrote it."""
        rows = self._rows.all("select * from checkpoints where deleted is not null and bin is null")
        return {self._checkpoint(row).name: row["job_id"] for row in rows}

    def deleted_steps(self, user: str, repo: str, bake: str) -> set[int]:
        """The numbers of deleted checkpoints, also of those in the bin: no other checkpoint of a bake of that name may
        get them."""
        where = "user = ? and repo = ? and bake = ? and deleted is not null"
        return {row["step"] for row in self._rows.all(f"select step from checkpoints where {where}", user, repo, bake)}

    def in_bin(self, operation: int, bake: str, step: int) -> Checkpoint | None:
        """A checkpoint of that bake and step that the operation deleted, if it is in the bin."""
        row = self._rows.one("select * from checkpoints where bin = ? and bake = ? and step = ?", operation, bake, step)
        return None if row is None else self._checkpoint(row)

    def mark_deleted(self, user: str, repo: str, bake: str | None = None, step: int | None = None) -> None:
        """Mark the checkpoints of the repo, or only those of one bake, or the one of that step. No name means them."""
        self._rows.execute(
            "update checkpoints set deleted = ?, moved = null where user = ? and repo = ? and deleted is null "
            "and bake = coalesce(?, bake) and step = coalesce(?, step)",
            int(time.time()),
            user,
            repo,
            bake,
            step,
        )

    def remove(self, name: str) -> None:
        """Remove the row of the checkpoint of that full name, deleted or not."""
        user, repo, bake, step = name.split("/")
        self._rows.execute(f"delete from checkpoints where {KEY}", user, repo, bake, int(step))

    def hand_over(self, old_job: int, new_job: int) -> None:
        """Give the checkpoints of one job to another, deleted ones too."""
        self._rows.execute("update checkpoints set job_id = ? where job_id = ?", new_job, old_job)

    def _checkpoints(self, where: str, *parameters: str) -> list[Checkpoint]:
        where = f"{where} and deleted is null"
        rows = self._rows.all(f"select * from checkpoints where {where} order by job_id desc, step desc", *parameters)
        return [self._checkpoint(row) for row in rows]

    def _checkpoint(self, row: Row) -> Checkpoint:
        fields = {name: row[name] for name in Checkpoint.__struct_fields__}
        return Checkpoint(**{**fields, "path": self._home / row["path"], "is_served": bool(row["is_served"])})
