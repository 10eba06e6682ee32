"""What two versions are compared on: held-out rows of their bakes, a probe, or questions."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path

import msgspec

from baker.errors import StageError
from baker.history.commit import content_id
from baker.storage.home import DATA, SPEC, job_folder
from baker.trajectories.files import load_trajectory
from baker.types import Checkpoint, Message, Trajectory


class RowKind(StrEnum):
    TARGET = "target"
    """Held out by a bake: no version was trained on the question."""
    PROBE = "probe"
    QUESTION = "question"
    NEUTRAL = "neutral"
    """The base model's answer to a question that has nothing to do with any bake."""


class Row(msgspec.Struct, frozen=True):
    """One conversation, and the answer on which the versions are compared."""

    kind: RowKind
    group: str
    """Name of the target or probe; of the kind for others."""
    question: str
    """The last message, for people."""
    context_ids: list[int]
    response_ids: list[int] | None = None
    """None: the first version's greedy answer."""

    @property
    def key(self) -> str:
        """Hash of what the engine is asked."""
        return content_id([self.context_ids, self.response_ids])


class _Spec(msgspec.Struct, frozen=True):
    """The part of spec.json that is read here: see `training/spec.py`."""

    held_out: dict[str, list[str]] = {}


def held_out_files(home: Path, job: int) -> dict[str, list[Path]]:
    """Target -> files of the trajectories that the bake of that job held out; empty for an import. Blocks."""
    folder = job_folder(home, job)
    try:
        spec = msgspec.json.decode((folder / SPEC).read_bytes(), type=_Spec)
    except (OSError, msgspec.DecodeError):
        return {}
    # The spec has absolute paths, and the home may have moved since.
    files = {
        target: [folder / DATA / target / Path(name).name for name in names] for target, names in spec.held_out.items()
    }
    return {target: own for target, paths in files.items() if (own := [path for path in paths if path.is_file()])}


def held_out_rows(home: Path, checkpoints: Iterable[Checkpoint], limit: int) -> list[Row]:
    """At most `limit` rows that bakes held out, as evenly from all targets as possible. Blocks.

    The same for every order of the checkpoints. Rows that both have count once. Unreadable files are left out.
    """
    rows: dict[str, dict[str, Row]] = {}
    for checkpoint in sorted(checkpoints, key=lambda each: each.name):
        for target, files in held_out_files(home, checkpoint.job_id).items():
            for row in trajectory_rows(files, RowKind.TARGET, target):
                rows.setdefault(target, {}).setdefault(row.key, row)
    in_turn = zip_longest(*(own.values() for _, own in sorted(rows.items())))
    return [row for turn in in_turn for row in turn if row is not None][:limit]


def trajectory_rows(files: Sequence[Path], kind: RowKind, group: str) -> list[Row]:
    """Rows of stored answers. Blocks."""
    rows = []
    for file in files:
        try:
            rows.append(_row(load_trajectory(file), kind, group))
        except StageError:
            continue
    return rows


def _row(trajectory: Trajectory, kind: RowKind, group: str) -> Row:
    return Row(kind, group, trajectory.stimulus, trajectory.student_ids.tolist(), trajectory.response_ids.tolist())


def question_of(conversation: Sequence[Message]) -> str:
    """The last message's text."""
    return str(conversation[-1].get("content"))


def rows_hash(rows: Sequence[Row]) -> str:
    return content_id([[row.kind, row.group, row.key] for row in rows])
