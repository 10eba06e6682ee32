"""Rows of checkpoints, and the moves of their bakes' names. Which name moves is decided in `baker/versions`."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from baker.storage.rows import Row, Rows
from baker.types import Checkpoint, MovedBy


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

    def all_moved(self) -> list[Checkpoint]:
        """Checkpoints of all bakes that a name was moved to, latest move first."""
        rows = self._rows.all("select * from checkpoints where moved is not null order by moved desc")
        return [self._checkpoint(row) for row in rows]

    def of_bake(self, user: str, repo: str, bake: str) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("where user = ? and repo = ? and bake = ?", user, repo, bake)

    def of_user(self, user: str) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("where user = ?", user)

    def all(self) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("")

    def remove_of_bake(self, user: str, repo: str, bake: str) -> None:
        self._rows.execute("delete from checkpoints where user = ? and repo = ? and bake = ?", user, repo, bake)

    def remove(self, checkpoint: Checkpoint) -> None:
        key = [checkpoint.user, checkpoint.repo, checkpoint.bake, checkpoint.step]
        self._rows.execute("delete from checkpoints where user = ? and repo = ? and bake = ? and step = ?", *key)

    def hand_over(self, old_job: int, new_job: int) -> None:
        """Give the checkpoints of one job to another."""
        self._rows.execute("update checkpoints set job_id = ? where job_id = ?", new_job, old_job)

    def _checkpoints(self, where: str, *parameters: str) -> list[Checkpoint]:
        rows = self._rows.all(f"select * from checkpoints {where} order by job_id desc, step desc", *parameters)
        return [self._checkpoint(row) for row in rows]

    def _checkpoint(self, row: Row) -> Checkpoint:
        fields = {name: row[name] for name in Checkpoint.__struct_fields__}
        return Checkpoint(**{**fields, "path": self._home / row["path"], "is_served": bool(row["is_served"])})
