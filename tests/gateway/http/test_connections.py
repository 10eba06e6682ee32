"""What comes before a request's body, over real connections."""

import socket
from collections.abc import Callable, Iterator

import pytest

from gateway.http import connections
from gateway.http.connections import MAX_HEAD_BYTES, Connection
from tests.asgi_server import served

SECONDS = 60.0
"""Longer than anything here takes; far shorter than nothing happening at all."""
BODY = b"x" * (2 * MAX_HEAD_BYTES)
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
Connect = Callable[[], socket.socket]


async def count(scope: object, receive: Callable, send: Callable) -> None:  # type: ignore[type-arg]
    """Answers with the number of bytes of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def connect() -> Iterator[Connect]:
    opened: list[socket.socket] = []
    with served(count, http=Connection) as url:
        host, port = url.removeprefix("http://").split(":")

        def to_it() -> socket.socket:
            opened.append(socket.create_connection((host, int(port)), SECONDS))
            return opened[-1]

        yield to_it
        for each in opened:
            each.close()


def answer(connection: socket.socket) -> bytes:
    """Until it is closed by the other side."""
    text = b""
    while part := connection.recv(1 << 16):
        text += part
    return text


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX-Endless: ", b"GET /"], ids=["header", "address"])
def test_an_endless_head_is_refused(connect: Connect, head: bytes) -> None:
    connection = connect()
    connection.sendall(head)
    sent = 0
    with pytest.raises(OSError):
        while sent < 100 * MAX_HEAD_BYTES:
            sent += connection.send(b"a" * 4096)
    assert sent < 100 * MAX_HEAD_BYTES


def test_many_headers_are_refused_with_a_status(connect: Connect) -> None:
    """As a client sees it that sends no more than is read."""
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-Name: value\r\n" * (MAX_HEAD_BYTES // 15 + 1))
    assert answer(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("sent", "said"), [(b"", b""), (b"GET / HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408 ")], ids=["silent", "half"]
)
def test_a_head_that_does_not_come_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, connect: Connect, sent: bytes, said: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    connection = connect()
    connection.sendall(sent)
    assert answer(connection)[: len(said)] == said


def test_bodies_are_no_part_of_a_head(connect: Connect) -> None:
    """Several requests on one connection, in pieces of all sizes, the beginning of the next among them."""
    connection = connect()
    last = REQUEST.replace(b"Host", b"Connection: close\r\nHost")
    stream = REQUEST * 3 + last
    place = 0
    for size in (1, 7, 60, 1000, len(REQUEST), len(stream)):
        connection.sendall(stream[place : place + size])
        place += size
    said = answer(connection)
    assert said.count(b"HTTP/1.1 200 ") == said.count(str(len(BODY)).encode()) == 4


def test_the_end_of_a_head_ends_its_time(monkeypatch: pytest.MonkeyPatch, connect: Connect) -> None:
    """The body may take longer than a head may."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    connection, slow = connect(), connect()
    connection.sendall(REQUEST.replace(b"Host", b"Connection: close\r\nHost")[: -len(BODY)])
    assert answer(slow) == b"", "the time of a head is over"
    connection.sendall(BODY)
    assert answer(connection).startswith(b"HTTP/1.1 200 ")
