"""Training states on disk: everything that a training needs to continue as if it had never been interrupted.

    <folder>/<step>/state.json, arrays.safetensors

A checkpoint is an adapter to serve; a state holds weights, optimizer and random state to train on. It is written to a
temporary name, fsynced and renamed. The newest complete one counts, the one before stays in reserve. Needs no torch, so
the service can look for states.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from numpy.typing import NDArray
from safetensors.numpy import load, save

from baker.errors import StageError
from baker.status import Loss
from baker.storage.files import new_folder
from baker.training.events import Drifted, Evaluated

KEPT = 2
"""Number of states that stay on disk."""
_JSON, _ARRAYS = "state.json", "arrays.safetensors"


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Progress of a training."""

    step: int
    """Number of optimizer steps done. The learning rate and the order of the data follow from it."""
    rows: int
    """Number of metrics rows written."""
    loss: Loss
    losses: list[float]
    """Loss of each step."""
    evaluations: list[Evaluated]
    drifts: list[Drifted] = []
    round: int = 0
    """Number of the current on-policy round; 0: before the rounds."""
    passes: int = 0
    """Number of passes over the data that are done at the end of this round."""
    at_once: int | None = None
    """Number of trajectories per forward pass that memory allowed: another number would round differently."""


class TrainingState(NamedTuple):
    standing: Standing
    arrays: Mapping[str, NDArray[Any]]
    """Weights, optimizer and random state, under names that the training loop chooses."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """state.json"""

    fingerprint: str
    """`TrainSpec.fingerprint` of the training that wrote it: no other training may resume from it."""
    sha256: str
    """Hash of the arrays' file: a power cut may leave a file of the right size full of zeros."""
    standing: Standing


def write(folder: Path, state: TrainingState, fingerprint: str) -> int:
    """Store the state beside the one before, and remove older ones. Returns: size of its arrays in bytes.

    Raises: OSError; the existing states then stay unchanged.
    """
    data = save(dict(state.arrays))
    file = _File(fingerprint, hashlib.sha256(data).hexdigest(), state.standing)
    with new_folder(folder / str(state.standing.step)) as temporary:
        (temporary / _ARRAYS).write_bytes(data)
        (temporary / _JSON).write_bytes(msgspec.json.encode(file))
    for old in _newest_first(folder)[KEPT:]:
        shutil.rmtree(old)
    return len(data)


def find(folder: Path, fingerprint: str) -> Path | None:
    """Folder of the newest complete state of that training; None if there is none. Incomplete, newer and foreign states
    are removed, since a training that resumes repeats those steps.

    Raises: OSError.
    """
    for incomplete in folder.glob(".*.tmp"):
        shutil.rmtree(incomplete)
    for path in _newest_first(folder):
        file = _read(path)
        if file is not None and file.fingerprint == fingerprint:
            return path
        shutil.rmtree(path)
    return None


def read(path: Path) -> TrainingState:
    """Raises: StageError if `path` holds no complete state."""
    file = _read(path)
    if file is None:
        raise StageError(f"the training state in {path} is incomplete or damaged: run the bake again")
    return TrainingState(file.standing, load((path / _ARRAYS).read_bytes()))


def step_of(path: Path) -> int:
    """Number of steps before the state in `path`."""
    return int(path.name)


def _read(path: Path) -> _File | None:
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        file = msgspec.json.decode((path / _JSON).read_bytes(), type=_File)
        with (path / _ARRAYS).open("rb") as arrays:
            if hashlib.file_digest(arrays, "sha256").hexdigest() == file.sha256:
                return file
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*") if path.name.isdigit()), key=step_of, reverse=True)
