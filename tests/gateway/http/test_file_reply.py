"""Files whole and in part, by the examples and rules of RFC 9110, section 14."""

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
        ("bytes=9999-10000", 9999, 9999),  # beyond the end: the remainder (14.1.2)
        ("bytes=0-999999999999999999", 0, 9999),
        ("bytes=-10001", 0, 9999),  # longer than the whole: all of it (14.1.2)
    ],
)
def test_one_range_is_the_bytes_that_the_standard_says(header: str, first: int, last: int) -> None:
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
        "bytes=5-4",  # invalid (14.1.1), so to be ignored
        "bytes=-5-4",
        "bytes = 0-4",
        "bytes=0 - 4",
        "bytes=+1-4",
        "bytes=\u0661-\u0664",  # digits, but not ASCII's
        "items=0-4",  # an unknown unit must be ignored (14.2)
        "bytes=0-0,-1",  # several ranges may be
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_what_is_no_single_range_means_the_whole(header: str | None) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=10000-", SIZE), ("bytes=10000-10001", SIZE), ("bytes=-0", SIZE)])
@pytest.mark.parametrize("empty", [False, True])
def test_a_range_without_bytes_can_not_be_satisfied(header: str, size: int, empty: bool) -> None:
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
    os.utime(file, (1, 1))  # never the same, however coarse the disk's clock


def remove(file: Path) -> None:
    file.unlink(missing_ok=True)


class ModelRequest:
    """What a server hears from the app, and a client that stays until it is told to leave."""

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


async def fetch(path: Path, method: str = "GET", **headers: str) -> ModelRequest:
    exchange = ModelRequest()
    asked = {name.replace("_", "-"): value for name, value in headers.items()}
    scope: Any = {"type": "http"}
    await FileReply(path, "a.tar.gz", "application/gzip", method, asked)(scope, exchange.receive, exchange.send)
    return exchange


async def test_the_whole_file_says_how_it_may_be_fetched_in_parts(file: Path) -> None:
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


async def test_head_tells_the_same_without_the_file_and_knows_no_ranges(file: Path) -> None:
    whole, head = await fetch(file), await fetch(file, "HEAD", range="bytes=0-499")
    assert (head.status, head.body, head.headers, head.is_complete) == (200, b"", whole.headers, True)


async def test_a_part_says_which_it_is(file: Path) -> None:
    part = await fetch(file, range="bytes=42-1233")
    assert (part.status, part.body, part.is_complete) == (206, CONTENT[42:1234], True)
    assert part.headers["content-range"] == "bytes 42-1233/10000"
    assert part.headers["content-length"] == "1192"


async def test_a_part_that_is_not_there_is_refused_with_the_size(file: Path) -> None:
    refused = await fetch(file, range="bytes=10000-")
    assert (refused.status, refused.body, refused.is_complete) == (416, b"", True)
    assert (refused.headers["content-range"], refused.headers["content-length"]) == ("bytes */10000", "0")


async def test_if_range_resumes_the_same_file_and_begins_another_anew(file: Path) -> None:
    etag = (await fetch(file)).headers["etag"]
    same = await fetch(file, range="bytes=5000-", if_range=etag)
    assert (same.status, same.body) == (206, CONTENT[5000:SIZE])
    for other in (f"W/{etag}", '"other"', etag.strip('"'), "Sat, 29 Oct 1994 19:43:31 GMT"):
        whole = await fetch(file, range="bytes=5000-", if_range=other)
        assert (whole.status, whole.body) == (200, CONTENT[:SIZE])
    replace(file, CONTENT[:SIZE][::-1])
    anew = await fetch(file, range="bytes=5000-", if_range=etag)
    assert (anew.status, anew.body) == (200, CONTENT[:SIZE][::-1])


async def test_a_large_file_is_sent_in_blocks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reply, "BLOCK_BYTES", 1000)
    sizes = []

    class Counting(ModelRequest):
        async def send(self, message: Any) -> None:
            await super().send(message)
            sizes.append(len(message.get("body", b"")))

    exchange = Counting()
    scope: Any = {"type": "http"}
    asked = {"range": "bytes=500-3999"}
    await FileReply(file, "a", "application/gzip", "GET", asked)(scope, exchange.receive, exchange.send)
    assert exchange.body == CONTENT[500:4000]
    assert sizes == [0, 1000, 1000, 1000, 500, 0]


async def test_a_file_that_goes_meanwhile_is_sent_to_its_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reply, "BLOCK_BYTES", 1000)

    class Removing(ModelRequest):
        async def send(self, message: Any) -> None:
            remove(file)
            await super().send(message)

    exchange = Removing()
    scope: Any = {"type": "http"}
    await FileReply(file, "a", "application/gzip", "GET", {})(scope, exchange.receive, exchange.send)
    assert exchange.body == CONTENT[:SIZE]
    with pytest.raises(NotFoundError):
        await fetch(file)


async def test_nothing_is_read_for_a_client_that_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reply, "BLOCK_BYTES", 1)

    class Leaving(ModelRequest):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if len(self.body) == 3:
                self.left.set()

    exchange = Leaving()
    scope: Any = {"type": "http"}
    await FileReply(file, "a", "application/gzip", "GET", {})(scope, exchange.receive, exchange.send)
    assert 3 <= len(exchange.body) < 100
