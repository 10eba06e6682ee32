"""Sends a file over ASGI, whole or in part (RFC 9110, section 14). It is read block by block in a thread.

Litestar's own file responses do not support ranges. Starlette's refuse unknown range units, which must be ignored, and
apply ranges to HEAD, where they are not defined.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from litestar.types import Receive, Scope, Send

from baker.errors import NotFoundError
from gateway.errors import ClientLeftError
from gateway.http.asgi import encoded, unless_client_leaves

BLOCK_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.IGNORECASE)


class UnsatisfiableRangeError(Exception):
    """The range begins beyond the end of the file."""


def parse_range(header: str | None, size: int) -> range | None:
    """The bytes that a Range header requests from a file of `size` bytes; None: all of them.

    A header that is malformed, has an unknown unit or requests several ranges is ignored, as the RFC allows (14.2).
    Raises: UnsatisfiableRangeError.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":  # the last `last` bytes
        if int(last) == 0 or size == 0:
            raise UnsatisfiableRangeError
        return range(max(0, size - int(last)), size)
    if last != "" and int(last) < int(first):
        return None
    if int(first) >= size:
        raise UnsatisfiableRangeError
    return range(int(first), size if last == "" else min(int(last) + 1, size))


class Readable(Protocol):
    """Something like a file, read in a thread."""

    def seek(self, offset: int, /) -> object: ...

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class Content(NamedTuple):
    file: Readable
    size: int
    etag: str
    """Without quotes; other bytes have another one."""


def open_file(path: Path) -> Content:
    """Raises: FileNotFoundError."""
    file = path.open("rb")
    stat = os.fstat(file.fileno())
    return Content(file, stat.st_size, f"{stat.st_mtime_ns:x}-{stat.st_size:x}")


class FileReply:
    """The answer to a GET or HEAD of a file, which may be deleted meanwhile but must never change."""

    def __init__(
        self,
        source: Path | Callable[[], Content],
        name: str,
        media_type: str,
        method: str,
        request_headers: Mapping[str, str],
    ) -> None:
        """Args: source: the file, or a function that opens it and raises FileNotFoundError; name: file name suggested
        to the client; request_headers: with names in lower case."""
        self._open = partial(open_file, source) if isinstance(source, Path) else source
        self._method = method
        self._request_headers = request_headers
        self._headers = {
            "content-type": media_type,
            "content-disposition": f'attachment; filename="{name}"',
            "accept-ranges": "bytes",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises: NotFoundError if the file was deleted. Downloads that have begun continue to the end."""
        try:
            content = await asyncio.to_thread(self._open)
        except FileNotFoundError as error:
            raise NotFoundError("The file was deleted") from error
        with contextlib.closing(content.file):
            await self._answer(content, receive, send)

    async def _answer(self, content: Content, receive: Receive, send: Send) -> None:
        size = content.size
        # No Last-Modified: If-Range needs a strong validator, and dates in whole seconds are weak ones (13.1.5).
        headers = {**self._headers, "etag": f'"{content.etag}"'}
        try:
            part = parse_range(self._range_header(headers["etag"]), size)
        except UnsatisfiableRangeError:
            await _start(send, 416, {**headers, "content-range": f"bytes */{size}", "content-length": "0"})
            await _end(send)
            return
        if part is not None:
            headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        sent = range(size) if part is None else part
        await _start(send, 200 if part is None else 206, {**headers, "content-length": str(len(sent))})
        if self._method == "GET":
            with contextlib.suppress(ClientLeftError):
                await unless_client_leaves(receive, _send_bytes(send, content.file, sent))
        await _end(send)

    def _range_header(self, etag: str) -> str | None:
        """The Range header; None if it must be ignored: not a GET (14.2), or If-Range names another file."""
        if self._method != "GET" or self._request_headers.get("if-range", etag) != etag:
            return None
        return self._request_headers.get("range")


async def _send_bytes(send: Send, file: Readable, part: range) -> None:
    file.seek(part.start)
    left = len(part)
    while left:
        block = await asyncio.to_thread(file.read, min(BLOCK_BYTES, left))
        if not block:
            raise OSError(f"the file ended {left} bytes too early")
        left -= len(block)
        await send({"type": "http.response.body", "body": block, "more_body": True})


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": encoded(headers)})


async def _end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})
