"""Writes and reads a trajectory as a safetensors file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from baker.errors import StageError
from baker.storage.files import write_bytes
from baker.types import Trajectory

_ARRAYS: dict[str, tuple[type[np.generic], int]] = {
    "teacher_ids": (np.int32, 1),
    "student_ids": (np.int32, 1),
    "response_ids": (np.int32, 1),
    "top_ids_TK": (np.int32, 2),
    "top_logprobs_TK": (np.float32, 2),
}
"""Name, type and number of dimensions of each tensor in the file."""


def save_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Write one safetensors file: four int32 arrays, one float32 array, and the stimulus as metadata.

    Raises: ValueError if the arrays do not fit together (training would otherwise fail much later); OSError.
    """
    _check(trajectory)
    arrays = {
        name: np.ascontiguousarray(getattr(trajectory, name), dtype=dtype) for name, (dtype, _) in _ARRAYS.items()
    }
    write_bytes(path, save(arrays, metadata={"stimulus": trajectory.stimulus}))


def load_trajectory(path: Path) -> Trajectory:
    """Raises: StageError naming the file, if it is missing or not a complete trajectory."""
    try:
        with safe_open(path, framework="np") as file:
            arrays: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in _ARRAYS}
            trajectory = Trajectory(**arrays, stimulus=(file.metadata() or {})["stimulus"])
        _check(trajectory)
    except FileNotFoundError as error:
        raise StageError(f"trajectory file {path} is missing: run the rollout again") from error
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StageError(f"trajectory file {path} can't be read ({error}): run the rollout again") from error
    return trajectory


def _check(trajectory: Trajectory) -> None:
    for name, (dtype, dimensions) in _ARRAYS.items():
        array: NDArray[Any] = getattr(trajectory, name)
        if array.ndim != dimensions or not np.can_cast(array.dtype, dtype, "same_kind"):
            raise ValueError(
                f"{name} must be {dtype.__name__} of {dimensions} dimensions, got {array.dtype} of shape {array.shape}"
            )
    length = len(trajectory.response_ids)
    if trajectory.top_ids_TK.shape != trajectory.top_logprobs_TK.shape or len(trajectory.top_ids_TK) != length:
        raise ValueError(
            f"a response of {length} tokens has top_ids_TK of shape {trajectory.top_ids_TK.shape} "
            f"and top_logprobs_TK of shape {trajectory.top_logprobs_TK.shape}"
        )
