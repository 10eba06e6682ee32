"""Where a training stands, on disk: all that it needs to go on as if it had never been interrupted.

    <folder>/<step>/state.json, arrays.safetensors

Apart from checkpoints: those are adapters for serving, this is weights, optimizer and random state for training on.
Written to a temporary name, fsynced, renamed; the newest whole one counts, the one before stays in reserve. Knows no
torch, so that the service can tell what there is.
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
_JSON, _ARRAYS = "state.json", "arrays.safetensors"


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a training got."""

    step: int
    """Optimizer steps done. The learning rate and the order of the data follow from it."""
    rows: int
    """Metrics rows written by then."""
    loss: Loss
    losses: list[float]
    """Of each step."""
    evaluations: list[Evaluated]
    drifts: list[Drifted] = []
    round: int = 0
    """The on-policy round that it stands in; 0: before them."""
    passes: int = 0
    """Passes over the data that it has behind it at the round's end."""
    at_once: int | None = None
    """Trajectories of a forward pass, as memory allowed: with others, rounding is another."""


class TrainingState(NamedTuple):
    standing: Standing
    arrays: Mapping[str, NDArray[Any]]
    """Weights, optimizer and random state; whose names they have is the loop's to say."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """state.json"""

    fingerprint: str
    """Of what is trained: a state of something else is no use."""
    sha256: str
    """Of the arrays' file: a power cut may leave a whole file of zeros."""
    standing: Standing


def write(folder: Path, state: TrainingState, fingerprint: str) -> int:
    """Keep the state beside the one before, and remove older ones. Returns: bytes of its arrays.

    Raises: OSError; those that were there then stand as they were.
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
    """The newest whole state of that training; None if there is none. What was torn, and what is newer, is removed,
    since a training that goes on from here comes by those steps again.

    Raises: OSError.
    """
    for torn in folder.glob(".*.tmp"):
        shutil.rmtree(torn)
    for path in _newest_first(folder):
        file = _read(path)
        if file is not None and file.fingerprint == fingerprint:
            return path
        shutil.rmtree(path)
    return None


def read(path: Path) -> TrainingState:
    """Raises: StageError if there is no whole state in `path`."""
    file = _read(path)
    if file is None:
        raise StageError(f"the training state in {path} is not whole")
    return TrainingState(file.standing, load((path / _ARRAYS).read_bytes()))


def step_of(path: Path) -> int:
    """The steps that the state in `path` has behind it."""
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
