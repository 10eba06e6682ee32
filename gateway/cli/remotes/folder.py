"""The files of a repo in a plain folder. Every write is a new file that is renamed when it is complete."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from gateway.cli.failures import CliError
from gateway.cli.remotes.layout import CHUNK_BYTES, INDEX, LAYOUT, LAYOUT_CONTENT, MOST_INDEX_BYTES, Update

LOCK = ".lock"


class Folder:
    """See `layout.Files`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.label = f"file:{path}"

    def open(self, name: str) -> BinaryIO | None:
        try:
            # Links would lead elsewhere.
            file = os.fdopen(os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CliError(f"cannot read {name} in {self.label}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise CliError(f"{name} in {self.label} is not a regular file")
        return file

    def part(self, sha256: str, size: int) -> int:
        if self._blob(sha256).is_file():
            return size
        try:
            here = self._part(sha256).stat().st_size
        except FileNotFoundError:
            return 0
        if here < size:
            return here
        return size if self._finish(sha256, size) else 0

    def append(self, sha256: str, size: int, offset: int, chunks: Iterable[bytes]) -> None:
        part = self._part(sha256)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            with os.fdopen(descriptor, "r+b") as file:
                self._check_room(size - offset)
                file.truncate(offset)
                file.seek(offset)
                written = offset
                for chunk in chunks:
                    written += len(chunk)
                    if written > size:  # the source may never end
                        break
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if written < size:
                return
            if written > size:
                part.unlink()
            if written > size or not self._finish(sha256, size):
                raise CliError(f"{sha256[:12]} came with another content: nothing of it was kept, try again")
        except OSError as error:
            raise CliError(f"cannot write to {self.label}: {error.strerror}") from error

    def _check_room(self, size: int) -> None:
        free = shutil.disk_usage(self.path).free
        if size > free:
            raise CliError(f"cannot write to {self.label}: it needs {size} bytes, and the disk has {free} left")

    def _finish(self, sha256: str, size: int) -> bool:
        """Give the blob its name, if it is whole; else remove it."""
        part = self._part(sha256)
        if part.stat().st_size == size and _sha256(part) == sha256:
            part.replace(self._blob(sha256))
            return True
        part.unlink()
        return False

    def publish(self, update: Update) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                file = self.open(INDEX)
                if file is None:
                    self._replace(LAYOUT, LAYOUT_CONTENT)
                    self._replace(INDEX, update(None))
                    return
                with file:
                    content = file.read(MOST_INDEX_BYTES + 1)
                self._replace(INDEX, update(content))
        except OSError as error:
            raise CliError(f"cannot write to {self.label}: {error.strerror}") from error

    def _replace(self, name: str, content: bytes) -> None:
        new = self.path / f".{name}.{uuid.uuid4().hex}"
        try:
            with new.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path / name)
        finally:
            new.unlink(missing_ok=True)

    def _blob(self, sha256: str) -> Path:
        return self.path / "blobs" / "sha256" / sha256

    def _part(self, sha256: str) -> Path:
        return self._blob(sha256).with_name(f".{sha256}.part")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
