"""Whole files and ranges, by the examples and rules of RFC 9110, section 14."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from baker.errors import NotFoundError
from gateway.http import file_reply
from gateway.http.file_reply import FileReply, UnsatisfiableRangeError, parse_range

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 40
SIZE = 10_000  # as in the examples of 14.1.2


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-499", 0, 499),
        ("bytes=500-999", 500, 999),
        ("bytes=-500", 9500, 9999),
        ("bytes=9500-", 9500, 9999),
        ("bytes=0-0", 0, 0),
        ("bytes=-1", 9999, 9999),
        ("bytes=0-", 0, 9999),
        ("BYTES=0-499", 0, 499),  # range units are case-insensitive (14.1)
        ("bytes=9999-10000", 9999, 9999),  # an end beyond the file: the rest of it (14.1.2)
        ("bytes=0-999999999999999999", 0, 9999),
        ("bytes=-10001", 0, 9999),  # longer than the file: all of it (14.1.2)
    ],
)
def test_a_single_range_is_the_bytes_that_the_rfc_defines(header: str, first: int, last: int) -> None:
    assert parse_range(header, SIZE) == range(first, last + 1)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",  # invalid (14.1.1), so it is ignored
        "bytes=-5-4",
        "bytes = 0-4",
        "bytes=0 - 4",
        "bytes=+1-4",
        "bytes=\u0661-\u0664",  # digits, but not ASCII
        "items=0-4",  # an unknown unit must be ignored (14.2)
        "bytes=0-0,-1",  # several ranges may be ignored
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_anything_but_a_single_range_means_the_whole_file(header: str | None) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=10000-", SIZE), ("bytes=10000-10001", SIZE), ("bytes=-0", SIZE)])
@pytest.mark.parametrize("empty", [False, True])
def test_a_range_without_bytes_is_unsatisfiable(header: str, size: int, empty: bool) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, 0 if empty else size)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT[:SIZE])
    return path


def replace(file: Path, content: bytes) -> None:
    remove(file)
    file.write_bytes(content)
    os.utime(file, (1, 1))  # differs from the original, however coarse the disk's clock


def remove(file: Path) -> None:
    file.unlink(missing_ok=True)


class Recorder:
    """Records what the application sends. The client stays until `left` is set."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False
        self.left = asyncio.Event()

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]
            self.is_complete = not message["more_body"]


async def fetch(path: Path, method: str = "GET", **headers: str) -> Recorder:
    recorder = Recorder()
    request_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    scope: Any = {"type": "http"}
    await FileReply(path, "a.tar.gz", "application/gzip", method, request_headers)(
        scope, recorder.receive, recorder.send
    )
    return recorder


async def test_the_whole_file_has_the_headers_for_ranges(file: Path) -> None:
    whole = await fetch(file)
    assert (whole.status, whole.body, whole.is_complete) == (200, CONTENT[:SIZE], True)
    etag = whole.headers.pop("etag")
    assert etag.startswith('"'), "a strong validator"
    assert whole.headers == {
        "content-type": "application/gzip",
        "content-disposition": 'attachment; filename="a.tar.gz"',
        "accept-ranges": "bytes",
        "content-length": "10000",
    }


async def test_head_has_the_same_headers_without_the_file_and_ignores_ranges(file: Path) -> None:
    whole, head = await fetch(file), await fetch(file, "HEAD", range="bytes=0-499")
    assert (head.status, head.body, head.headers, head.is_complete) == (200, b"", whole.headers, True)


async def test_a_part_has_its_range_and_length(file: Path) -> None:
    part = await fetch(file, range="bytes=42-1233")
    assert (part.status, part.body, part.is_complete) == (206, CONTENT[42:1234], True)
    assert part.headers["content-range"] == "bytes 42-1233/10000"
    assert part.headers["content-length"] == "1192"


async def test_a_range_beyond_the_end_is_refused_with_the_size(file: Path) -> None:
    refused = await fetch(file, range="bytes=10000-")
    assert (refused.status, refused.body, refused.is_complete) == (416, b"", True)
    assert (refused.headers["content-range"], refused.headers["content-length"]) == ("bytes */10000", "0")


async def test_if_range_resumes_the_same_file_and_restarts_another(file: Path) -> None:
    etag = (await fetch(file)).headers["etag"]
    same = await fetch(file, range="bytes=5000-", if_range=etag)
    assert (same.status, same.body) == (206, CONTENT[5000:SIZE])
    for other in (f"W/{etag}", '"other"', etag.strip('"'), "Sat, 29 Oct 1994 19:43:31 GMT"):
        whole = await fetch(file, range="bytes=5000-", if_range=other)
        assert (whole.status, whole.body) == (200, CONTENT[:SIZE])
    replace(file, CONTENT[:SIZE][::-1])
    whole_again = await fetch(file, range="bytes=5000-", if_range=etag)
    assert (whole_again.status, whole_again.body) == (200, CONTENT[:SIZE][::-1])


async def test_a_large_file_is_sent_in_blocks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reply, "BLOCK_BYTES", 1000)
    sizes = []

    class Counting(Recorder):
        async def send(self, message: Any) -> None:
            await super().send(message)
            sizes.append(len(message.get("body", b"")))

    recorder = Counting()
    scope: Any = {"type": "http"}
    request_headers = {"range": "bytes=500-3999"}
    await FileReply(file, "a", "application/gzip", "GET", request_headers)(scope, recorder.receive, recorder.send)
    assert recorder.body == CONTENT[500:4000]
    assert sizes == [0, 1000, 1000, 1000, 500, 0]


async def test_a_file_that_is_deleted_meanwhile_is_sent_to_its_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reply, "BLOCK_BYTES", 1000)

    class Removing(Recorder):
        async def send(self, message: Any) -> None:
            remove(file)
            await super().send(message)

    recorder = Removing()
    scope: Any = {"type": "http"}
    await FileReply(file, "a", "application/gzip", "GET", {})(scope, recorder.receive, recorder.send)
    assert recorder.body == CONTENT[:SIZE]
    with pytest.raises(NotFoundError):
        await fetch(file)


async def test_reading_stops_when_the_client_leaves(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reply, "BLOCK_BYTES", 1)

    class Leaving(Recorder):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if len(self.body) == 3:
                self.left.set()

    recorder = Leaving()
    scope: Any = {"type": "http"}
    await FileReply(file, "a", "application/gzip", "GET", {})(scope, recorder.receive, recorder.send)
    assert 3 <= len(recorder.body) < 100
