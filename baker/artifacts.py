"""Files: a reader sees a whole one or none, and a written one survives a `kill -9` and a power cut.

Order of effects: the bytes go to a temporary name in the same folder, are fsynced, get their final name, and the
folder is fsynced. What the files mean, and when an old one may go, is the caller's.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from baker.errors import StageError
from baker.types import Trajectory

_ARRAYS: dict[str, tuple[type[np.generic], int]] = {
    "teacher_ids": (np.int32, 1),
    "student_ids": (np.int32, 1),
    "response_ids": (np.int32, 1),
    "top_ids_TK": (np.int32, 2),
    "top_logprobs_TK": (np.float32, 2),
}
"""The tensors of a trajectory's file, each with its type and its number of dimensions."""


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: fsync of a file keeps its bytes, not its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to fill that becomes `path`, atomically and durably, when the block ends; gone if it raises.

    Raises: OSError; an old file of that name then stands as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`. Raises: see `new_file`."""
    with new_file(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of `value` as indented JSON; msgspec structs are welcome. NaN and infinity become null."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def save_trajectory(path: Path, trajectory: Trajectory) -> None:
    """One safetensors file: four arrays of int32, one of float32, and the stimulus as metadata.

    Raises: ValueError if the arrays do not fit each other, since training would fail on them much later; OSError.
    """
    _check(trajectory)
    arrays = {
        name: np.ascontiguousarray(getattr(trajectory, name), dtype=dtype) for name, (dtype, _) in _ARRAYS.items()
    }
    write_bytes(path, save(arrays, metadata={"stimulus": trajectory.stimulus}))


def load_trajectory(path: Path) -> Trajectory:
    """Raises: StageError naming the file if it is missing or is not a whole trajectory."""
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


def append_line(path: Path, row: Any) -> None:
    """`append_lines` of one row."""
    append_lines(path, [row])


def append_lines(path: Path, rows: Sequence[Any]) -> None:
    """Add each row as one line of JSON; they are on disk when this returns.

    One writer at a time. After a crash, call `repair_lines` before the first append: what a torn line left
    behind would swallow the next row.
    """
    is_new = not path.exists()
    with path.open("ab") as file:
        file.write(msgspec.json.Encoder().encode_lines(rows))
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


def read_lines(path: Path, offset: int = 0, limit: int | None = None) -> list[Any]:
    """Rows `offset` to `offset + limit` (all that follow if None); none if there is no file.

    A last line that is still being written, or was torn, is left out; the file is only read.
    """
    rows: list[Any] = []
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for number, line in enumerate(file):
            if limit is not None and len(rows) >= limit:
                break
            if number < offset:
                continue
            if (row := _row(line)) is None:
                break
            rows.append(row.value)
    return rows


def repair_lines(path: Path) -> int:
    """Cut what a crash left after the last whole row; returns the number of bytes cut (0 if there is no file)."""
    if not path.exists():
        return 0
    whole = 0
    with path.open("r+b") as file:
        for line in file:
            if _row(line) is None:
                break
            whole += len(line)
        size = file.seek(0, os.SEEK_END)
        if whole < size:
            file.truncate(whole)
            os.fsync(file.fileno())
    return size - whole


class _Row(msgspec.Struct):
    value: Any


def _row(line: bytes) -> _Row | None:
    """The row in `line`; None if the line is torn (a power cut may also leave zeros)."""
    if not line.endswith(b"\n"):
        return None
    try:
        return _Row(msgspec.json.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` to fill; `final` when the block ends, gone if it raises."""
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        publish_folder(temporary, final)
    except BaseException:
        for path in temporary.glob("*"):
            path.unlink()
        if temporary.exists():
            temporary.rmdir()
        raise


def sync_files(folder: Path) -> None:
    """Have the files in the folder on the disk; soon done if they are. Raises: OSError."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def publish_folder(temporary: Path, final: Path) -> None:
    """Give a finished folder of files its final name, durably; the files themselves are fsynced here too.

    Raises: FileExistsError if `final` exists and holds something, since a checkpoint is never overwritten; OSError.
    """
    sync_files(temporary)
    sync_folder(temporary)
    try:
        temporary.rename(final)
    except OSError as error:
        if final.exists():
            raise FileExistsError(f"{final} exists already: a checkpoint is never overwritten") from error
        raise
    sync_folder(final.parent)
