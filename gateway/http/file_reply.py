"""A file as ASGI, whole or in part (RFC 9110, section 14), read in a thread and never held in memory.

Litestar's own file responses know no ranges. Starlette's refuse a range unit that they don't know, which must be
ignored, and apply ranges to HEAD, for which none are defined.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from litestar.types import Receive, Scope, Send

from baker.errors import NotFoundError
from gateway.errors import ClientLeftError
from gateway.http.asgi import encoded, unless_client_leaves

BLOCK_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.IGNORECASE)


class UnsatisfiableRangeError(Exception):
    """The range begins beyond the end."""


def parse_range(header: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for of `size`; None: all of them.

    A header that is malformed, has an unknown unit or asks for several ranges is ignored, as a server may (14.2).
    Raises: UnsatisfiableRangeError.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":  # the last so many
        if int(last) == 0 or size == 0:
            raise UnsatisfiableRangeError
        return range(max(0, size - int(last)), size)
    if last != "" and int(last) < int(first):
        return None
    if int(first) >= size:
        raise UnsatisfiableRangeError
    return range(int(first), size if last == "" else min(int(last) + 1, size))


class FileReply:
    """The answer to a GET or HEAD of the file `path`, which may be removed meanwhile, but must never change."""

    def __init__(self, path: Path, name: str, media_type: str, method: str, asked: Mapping[str, str]) -> None:
        """Args: name: what the client may call it; asked: the request's headers, by lower-case names."""
        self._path = path
        self._method = method
        self._asked = asked
        self._headers = {
            "content-type": media_type,
            "content-disposition": f'attachment; filename="{name}"',
            "accept-ranges": "bytes",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises: NotFoundError if the file is gone; what was begun before that ends undisturbed."""
        try:
            file = await asyncio.to_thread(self._path.open, "rb")
        except FileNotFoundError as error:
            raise NotFoundError("The file was deleted") from error
        with file:
            await self._answer(file, receive, send)

    async def _answer(self, file: IO[bytes], receive: Receive, send: Send) -> None:
        found = os.fstat(file.fileno())
        size = found.st_size
        # No Last-Modified beside it: dates in whole seconds are no strong validators, and If-Range needs one (13.1.5).
        headers = {**self._headers, "etag": f'"{found.st_mtime_ns:x}-{size:x}"'}
        try:
            part = parse_range(self._range_asked(headers["etag"]), size)
        except UnsatisfiableRangeError:
            await _start(send, 416, {**headers, "content-range": f"bytes */{size}", "content-length": "0"})
            await _end(send)
            return
        if part is not None:
            headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        wanted = range(size) if part is None else part
        await _start(send, 200 if part is None else 206, {**headers, "content-length": str(len(wanted))})
        if self._method == "GET":
            with contextlib.suppress(ClientLeftError):
                await unless_client_leaves(receive, _send_bytes(send, file, wanted))
        await _end(send)

    def _range_asked(self, etag: str) -> str | None:
        """None if it does not count: ranges are for GET alone (14.2), and only of the file that If-Range names."""
        if self._method != "GET" or self._asked.get("if-range", etag) != etag:
            return None
        return self._asked.get("range")


async def _send_bytes(send: Send, file: IO[bytes], wanted: range) -> None:
    file.seek(wanted.start)
    left = len(wanted)
    while left:
        block = await asyncio.to_thread(file.read, min(BLOCK_BYTES, left))
        if not block:
            raise OSError(f"{file.name} ended {left} bytes too early")
        left -= len(block)
        await send({"type": "http.response.body", "body": block, "more_body": True})


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": encoded(headers)})


async def _end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})
