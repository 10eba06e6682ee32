"""Adapters that clients send: kept where they stopped until they are whole, then until a commit takes them.

    incoming/<user>/<repo>/<sha256>.part    the bytes so far
    incoming/<user>/<repo>/<sha256>         the whole stream, whose SHA-256 is its name

What one user sends to one repo can be seen and used by requests of that user for that repo only: knowing an adapter's
hash gives nothing. Everything here is bounded before the first byte is written: the adapter's size, the bytes that wait
for one user, and the space that stays free on the disk.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from baker.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError
from baker.names import path_of
from baker.storage.files import sync_folder
from baker.storage.home import INCOMING
from baker.transfer.blobs import BLOCK_BYTES, check_layout, check_sha256, wrong_hash

KEPT_SECONDS = 7 * 24 * 3600
MOST_WAITING = 4
"""The bytes that may wait for one user, in largest adapters."""
LEAST_BYTES = 64 << 10
"""A stream counts at least as this much, so that the number of files is bounded too."""
FREE_BYTES = 256 << 20
"""Space that an upload leaves on the disk."""
STALL_SECONDS = 60.0
"""An upload that sends nothing for this long is ended; what came is kept."""
PART = ".part"


class Standing(NamedTuple):
    size: int
    """Bytes that are here."""
    is_complete: bool


class _Turn:
    """Who writes a file. A client whose connection broke comes again while the old request may still wait for bytes:
    the newest request writes, older ones end at their next block."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.holder: object = None
        self.total = 0


class Uploads:
    def __init__(self, home: Path, largest: int) -> None:
        """Args: largest: bytes of the largest adapter that can be served."""
        self._root = home / INCOMING
        self._largest = largest
        self._turns: dict[Path, _Turn] = {}

    def find(self, user: str, repo: str, sha256: str) -> Path | None:
        """File with the whole stream. Raises: InvalidInputError if `sha256` is none."""
        file = self._file(user, repo, sha256)
        return file if file.is_file() else None

    def standing(self, user: str, repo: str, sha256: str) -> Standing:
        """How much of the stream is here. Raises: InvalidInputError."""
        file = self._file(user, repo, sha256)
        if file.is_file():
            return Standing(file.stat().st_size, True)
        return Standing(_size(_part(file)), False)

    async def announce(self, user: str, repo: str, sha256: str, total: int) -> Standing:
        """How much of the stream is here. Raises: InvalidInputError; TooLargeError if `total` bytes may not come."""
        file = self._file(user, repo, sha256)
        standing = await asyncio.to_thread(self.standing, user, repo, sha256)
        if not standing.is_complete:
            await asyncio.to_thread(self._check_room, user, file, total, self._announced(file))
            if standing.size == total and file not in self._turns:
                # The service ended between the last byte and the check of the hash.
                return await self.receive(user, repo, sha256, total, total, _nothing())
        return standing

    async def receive(
        self, user: str, repo: str, sha256: str, start: int, total: int, chunks: AsyncIterator[bytes]
    ) -> Standing:
        """Add bytes to the stream. What arrived before an interruption stays.

        Args:
            start: offset of the first byte of `chunks`: where the stream stopped, or 0 to begin again.
            total: size of the whole stream.
        Raises: InvalidInputError if the content is not that adapter; TooLargeError; ConflictError if the stream stopped
            elsewhere, or a newer request sends it.
        """
        file = self._file(user, repo, sha256)
        if file.is_file():
            return self.standing(user, repo, sha256)
        turn, holder = self._turns.setdefault(file, _Turn()), object()
        turn.holder = holder
        try:
            async with turn.lock:
                await asyncio.to_thread(self._check_room, user, file, total, self._announced(file))
                turn.total = total
                digest = await asyncio.to_thread(_open, _part(file), start)
            size = start
            async for block in _blocks(chunks):
                size += len(block)
                if size > total:
                    raise InvalidInputError(f"The content is longer than the {total} bytes that were announced")
                async with turn.lock:
                    if turn.holder is not holder:
                        raise ConflictError(f"A newer request sends {sha256}: this one was ended")
                    await asyncio.to_thread(_append, _part(file), block, digest)
            if size < total:
                return Standing(size, False)
            async with turn.lock:
                if turn.holder is not holder:
                    raise ConflictError(f"A newer request sends {sha256}: this one was ended")
                await asyncio.to_thread(_finish, file, digest.hexdigest())
            return Standing(total, True)
        finally:
            if turn.holder is holder:
                self._turns.pop(file, None)

    def discard(self, user: str, repo: str | None = None, sha256: str | None = None) -> None:
        """Remove what came for the user, for one repo, or one stream."""
        if repo is not None and sha256 is not None:
            self._file(user, repo, sha256).unlink(missing_ok=True)
        else:
            names = [user] if repo is None else [user, repo]
            shutil.rmtree(path_of(self._root, *names), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what no commit took for a week. Blocks."""
        oldest = time.time() - KEPT_SECONDS
        for file in self._root.glob("*/*/*"):
            with contextlib.suppress(FileNotFoundError):  # a commit may have taken it meanwhile
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def _file(self, user: str, repo: str, sha256: str) -> Path:
        return path_of(self._root, user, repo) / check_sha256(sha256, "The blob's name")

    def _announced(self, file: Path) -> dict[Path, int]:
        """Sizes of the other streams that are on their way."""
        return {each: turn.total for each, turn in self._turns.items() if each != file}

    def _check_room(self, user: str, file: Path, total: int, announced: dict[Path, int]) -> None:
        """Raises: TooLargeError unless a stream of `total` bytes may be written.

        Args: announced: sizes of the other streams that are on their way.
        """
        if total > self._largest:
            raise TooLargeError(
                f"The adapter has {total} bytes; one of this base model with the highest rank served here has at most "
                f"{self._largest} (--max-lora-rank)"
            )
        waiting = {each.with_suffix(""): _size(each) for each in path_of(self._root, user).glob("*/*")}
        waiting |= {each: size for each, size in announced.items() if each.parent.parent.name == user}
        waiting[file] = total
        counted = sum(max(size, LEAST_BYTES) for size in waiting.values())
        if counted > MOST_WAITING * self._largest:
            raise TooLargeError(
                f"{counted} bytes would wait for their commits, at most {MOST_WAITING * self._largest} "
                "may: send the commits of the adapters that are here first"
            )
        self._root.mkdir(exist_ok=True)
        free = shutil.disk_usage(self._root).free
        # Twice: the files are copied out of the stream when its commit comes.
        needed = 2 * total - _size(_part(file)) + FREE_BYTES
        if needed > free:
            raise TooLargeError(f"The adapter needs {needed} bytes, and the server's disk has {free} left")


def _part(file: Path) -> Path:
    return file.with_name(file.name + PART)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _open(part: Path, start: int) -> "hashlib._Hash":
    """The hash over the bytes before `start`. Raises: ConflictError unless the stream stopped there."""
    here = _size(part)
    if start not in (0, here):
        raise ConflictError(f"{here} bytes of the blob are here, so it continues at byte {here}, not {start}")
    part.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with part.open("ab") as file:
        file.truncate(start)
    with part.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest


def _append(part: Path, block: bytes, digest: "hashlib._Hash") -> None:
    digest.update(block)
    try:
        # Not created: the repo may have been removed meanwhile.
        with part.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(block)
    except FileNotFoundError as error:
        raise NotFoundError("The repo was removed during the upload") from error


def _finish(file: Path, sha256: str) -> None:
    part = _part(file)
    try:
        if sha256 != file.name:
            raise wrong_hash(file.name, sha256)
        check_layout(part)
    except InvalidInputError:
        part.unlink(missing_ok=True)
        raise
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.rename(file)
    sync_folder(file.parent)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks in larger blocks. If they stop early, the last block is given before the error is raised.

    Raises: InvalidInputError if nothing comes for STALL_SECONDS; what `chunks` raises.
    """
    pending = bytearray()
    failure: Exception | None = None
    while True:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                chunk = await anext(chunks, None)
        except TimeoutError:
            failure = InvalidInputError(f"Nothing came for {STALL_SECONDS:.0f} s: send the rest in another request")
            break
        except Exception as error:  # the connection broke: what came is worth keeping
            failure = error
            break
        if chunk is None:
            break
        pending += chunk
        if len(pending) >= BLOCK_BYTES:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)
    if failure is not None:
        raise failure
