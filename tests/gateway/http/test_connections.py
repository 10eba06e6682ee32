"""Limits on a request's head, over real connections."""

import socket
from collections.abc import Callable, Iterator

import pytest

from gateway.http import connections
from gateway.http.connections import MAX_HEAD_BYTES, Connection
from tests.asgi_server import served

SECONDS = 60.0
"""Socket timeout: longer than any step of these tests takes, so that a hanging one fails."""
BODY = b"x" * (2 * MAX_HEAD_BYTES)
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
Connect = Callable[[], socket.socket]


async def count(scope: object, receive: Callable, send: Callable) -> None:  # type: ignore[type-arg]
    """Answers with the number of bytes in the body."""
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

        def open_connection() -> socket.socket:
            opened.append(socket.create_connection((host, int(port)), SECONDS))
            return opened[-1]

        yield open_connection
        for each in opened:
            each.close()


def answer(connection: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
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
    """The client stops sending at the limit, so it can read the answer."""
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-Name: value\r\n" * (MAX_HEAD_BYTES // 15 + 1))
    assert answer(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("sent", "expected"), [(b"", b""), (b"GET / HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408 ")], ids=["silent", "half"]
)
def test_a_head_that_does_not_arrive_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, connect: Connect, sent: bytes, expected: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    connection = connect()
    connection.sendall(sent)
    assert answer(connection)[: len(expected)] == expected


def test_bodies_do_not_count_as_part_of_a_head(connect: Connect) -> None:
    """Several requests on one connection, sent in pieces of many sizes that also split requests."""
    connection = connect()
    last = REQUEST.replace(b"Host", b"Connection: close\r\nHost")
    stream = REQUEST * 3 + last
    place = 0
    for size in (1, 7, 60, 1000, len(REQUEST), len(stream)):
        connection.sendall(stream[place : place + size])
        place += size
    answers = answer(connection)
    assert answers.count(b"HTTP/1.1 200 ") == answers.count(str(len(BODY)).encode()) == 4


def test_the_time_limit_ends_with_the_head(monkeypatch: pytest.MonkeyPatch, connect: Connect) -> None:
    """The body may take longer than the head."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    connection, slow = connect(), connect()
    connection.sendall(REQUEST.replace(b"Host", b"Connection: close\r\nHost")[: -len(BODY)])
    assert answer(slow) == b"", "the time limit of a head has passed"
    connection.sendall(BODY)
    assert answer(connection).startswith(b"HTTP/1.1 200 ")
