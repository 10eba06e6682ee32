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
