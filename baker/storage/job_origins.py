"""What jobs came from, read from their rows without decoding their settings and the copies of their targets."""

from typing import NamedTuple

import msgspec

from baker.status import JobState
from baker.storage.job_inputs import MergeInputs
from baker.storage.rows import Row


class Origin(NamedTuple):
    """What a rollout or bake came from."""

    job_id: int
    is_deleted: bool
    """False in the bin: it may be brought back."""
    checkpoints: list[str]
    """Names of the checkpoints that the bake began from or merged, or that gave the answers."""


class BakeStart(NamedTuple):
    """What one run of a bake began from."""

    id: int
    name: str
    """Name of the bake."""
    state: JobState
    created: int
    """Unix seconds."""
    checkpoint: str | None
    """Name of the checkpoint that it began from; None: the base model, or it waits for a bake."""
    is_waiting: bool
    """Whether that checkpoint is the result of a bake that it waits for."""
    merge: MergeInputs | None
    """What it adds up; None if it is no merge."""


class _Teacher(msgspec.Struct):
    checkpoint: str | None = None


class _Merge(msgspec.Struct):
    base: str | None = None
    sides: list[_Teacher] = []


class _Inputs(msgspec.Struct):
    """The fields of `RolloutInputs` and `BakeInputs` that name checkpoints."""

    checkpoint: str | None = None
    targets: dict[str, _Teacher] = {}
    merge: _Merge | None = None


def checkpoints_in(inputs: str) -> list[str]:
    """Names of the checkpoints that a job came from, each once. Args: inputs: of a rollout or a bake, as JSON."""
    read = msgspec.json.decode(inputs, type=_Inputs)
    merge = read.merge or _Merge()
    several = (*read.targets.values(), *merge.sides)
    names = (read.checkpoint, merge.base, *(each.checkpoint for each in several))
    return list(dict.fromkeys(name for name in names if name is not None))


def bake_start(row: Row) -> BakeStart:
    """Args: row: the fields of BakeStart; `merge` as JSON."""
    return BakeStart(
        row["id"],
        row["name"],
        JobState(row["state"]),
        row["created"],
        row["checkpoint"],
        bool(row["is_waiting"]),
        None if row["merge"] is None else msgspec.json.decode(row["merge"], type=MergeInputs),
    )
