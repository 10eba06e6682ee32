"""Writes files atomically and durably: a reader sees all of a file or none, and it survives a kill or power cut.

Order of effects: the bytes go to a temporary name in the same folder, are fsynced and renamed, and the folder is
fsynced. The callers know what the files mean and when an old one may go.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

PRIVATE = 0o600
"""Mode of a file that only the service's user may read."""


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: fsync of a file keeps its bytes, not its name."""
    _fsync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(folder: Path) -> None:
    """Make all files and names below `folder` durable. Fast if they already are. Raises: OSError."""
    for path in sorted(folder.rglob("*")):
        _fsync(path, os.O_RDONLY)
    sync_folder(folder)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_file(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A temporary file to fill, which becomes `path` when the block ends, and is removed if the block raises.

    Args: mode: permissions of the file, less the process's umask.
    Raises: OSError; then an old file of that name is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_bytes(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace `path` by `data`. Args and raises: see `new_file`."""
    with new_file(path, mode) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of `value` (JSON values or msgspec structs) as indented JSON. NaN and infinity become null."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def append_line(path: Path, row: Any) -> None:
    """`append_lines` of one row."""
    append_lines(path, [row])


def append_lines(path: Path, rows: Sequence[Any]) -> None:
    """Add each row as one line of JSON. The rows are on disk when this returns.

    One writer at a time. After a crash, call `repair_lines` before the first append: otherwise the next row would be
    added to a torn line and lost.
    """
    is_new = not path.exists()
    with path.open("ab") as file:
        file.write(msgspec.json.Encoder().encode_lines(rows))
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


def read_lines(path: Path, offset: int = 0, limit: int | None = None) -> list[Any]:
    """Rows `offset` to `offset + limit` (None: all that follow). Empty if there is no file.

    A last line that is torn or still being written is left out. The file is only read.
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
    """Cut what a crash left after the last complete row. Returns: the number of bytes cut (0 if there is no file)."""
    if not path.exists():
        return 0
    complete = 0
    with path.open("r+b") as file:
        for line in file:
            if _row(line) is None:
                break
            complete += len(line)
        size = file.seek(0, os.SEEK_END)
        if complete < size:
            file.truncate(complete)
            os.fsync(file.fileno())
    return size - complete


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
    """A temporary folder to fill, which becomes `final` when the block ends, and is removed if the block raises.

    Raises: see `publish_folder`.
    """
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


def publish_folder(temporary: Path, final: Path) -> None:
    """Give a finished folder its final name, durably. Its files are fsynced here.

    Raises: FileExistsError if `final` exists and is not empty, since a published folder never changes; OSError.
    """
    sync_tree(temporary)
    try:
        temporary.rename(final)
    except OSError as error:
        if final.exists():
            raise FileExistsError(f"{final} exists already: a published folder is never overwritten") from error
        raise
    sync_folder(final.parent)
