"""The rows of a merge: what each version learned from, and what it held out. They block.

jobs/<number>/data/<label>/<job>-<target>-<trajectory>
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from baker.comparison.probe_set import held_out_files
from baker.config.bake import BakeConfig
from baker.errors import StageError
from baker.names import path_of
from baker.storage.home import DATA, SPEC, job_folder
from baker.storage.job_inputs import MergeInputs, MergeSide
from baker.trajectories.collate import Mix, Source, collate
from baker.trajectories.files import load_trajectory
from baker.types import Distribution, Trajectory


class Row(NamedTuple):
    """A held-out row, with what its own teacher predicts."""

    stimulus: str
    context_ids: list[int]
    response_ids: list[int]
    teacher: Distribution


class SideData(NamedTuple):
    """Files of the trajectories of one version's own bakes."""

    train: list[tuple[str, Path]]
    """(stimulus, file) pairs."""
    held_out: list[tuple[str, Path]]


class MergeData(NamedTuple):
    sides: dict[str, SideData]
    """By label, the bake's parent first."""
    dropped: int
    """Rows left out of the training since another version held out their question."""


class _Spec(msgspec.Struct, frozen=True):
    """The part of spec.json that is read here: see `training/spec.py`."""

    train: list[str] = []


def read_rows(files: Sequence[tuple[str, Path]]) -> list[Row]:
    """Raises: StageError if a file is missing or broken."""
    return [_row(load_trajectory(file)) for _, file in files]


def _row(trajectory: Trajectory) -> Row:
    return Row(
        trajectory.stimulus,
        trajectory.student_ids.tolist(),
        trajectory.response_ids.tolist(),
        Distribution(trajectory.top_ids_TK, trajectory.top_logprobs_TK),
    )


def merge_data(home: Path, inputs: MergeInputs) -> MergeData:
    """The rows of all sides. Each version's own split is kept: a question that one held out is trained on by none.

    A merge that is merged again has the rows of the versions that it came from.
    """
    sides = {side.label: _side_data(home, side) for side in inputs.sides}
    kept_out = {stimulus for data in sides.values() for stimulus, _ in data.held_out}
    before = sum(len(data.train) for data in sides.values())
    sides = {
        label: data._replace(train=[(stimulus, file) for stimulus, file in data.train if stimulus not in kept_out])
        for label, data in sides.items()
    }
    return MergeData(sides, before - sum(len(data.train) for data in sides.values()))


def _side_data(home: Path, side: MergeSide) -> SideData:
    train: dict[str, tuple[str, Path]] = {}
    held_out: dict[str, tuple[str, Path]] = {}
    for number in side.jobs:
        folder = job_folder(home, number)
        for files, rows in ((_trained_files(folder), train), (_held_out(home, number), held_out)):
            for file in files:
                try:
                    rows[_link_name(number, file)] = (load_trajectory(file).stimulus, file)
                except StageError:  # removed with its bake, or broken: the other rows count
                    continue
    return SideData(list(train.values()), list(held_out.values()))


def _trained_files(folder: Path) -> list[Path]:
    try:
        spec = msgspec.json.decode((folder / SPEC).read_bytes(), type=_Spec)
    except (OSError, msgspec.DecodeError):
        return []
    # The spec has absolute paths, and the home may have moved since.
    files = [folder / DATA / Path(name).parent.name / Path(name).name for name in dict.fromkeys(spec.train)]
    return [file for file in files if file.is_file()]


def _held_out(home: Path, number: int) -> list[Path]:
    return [file for files in held_out_files(home, number).values() for file in files]


def _link_name(job: int, file: Path) -> str:
    return f"{job}-{file.parent.name}-{file.name}"


def linked_data(data: MergeData, folder: Path, config: BakeConfig, weights: Mapping[str, float]) -> Mix[str]:
    """Link the rows into a new folder, and mix them: each version has the same part, however many rows it has.

    Args: weights: label -> share of the version; those that are not in it are not trained on.
    Raises: CollateError if a version has nothing to train on; OSError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    sources, held_out = {}, {}
    for label, side in data.sides.items():
        own = path_of(folder, label)
        own.mkdir(parents=True)
        if weights.get(label, 0.0) > 0:
            sources[label] = Source(weights[label], [(stimulus, _linked(file, own)) for stimulus, file in side.train])
        if side.held_out:
            held_out[label] = [_linked(file, own) for _, file in side.held_out]
    seed = config.seed if config.data.seed is None else config.data.seed
    mix = collate(sources, held_out_share=0.0, total=config.total_trajectories, seed=seed)
    targets = {
        label: msgspec.structs.replace(share, held_out=len(held_out.get(label, ())))
        for label, share in mix.collation.targets.items()
    }
    collation = msgspec.structs.replace(mix.collation, held_out=sum(map(len, held_out.values())), targets=targets)
    return Mix(mix.train, held_out, collation)


def _linked(file: Path, folder: Path) -> str:
    job = file.parents[2].name
    link = folder / f"{job}-{file.parent.name}-{file.name}"
    if not link.exists():
        try:
            os.link(file, link)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, link)
    return str(link)
