"""Answers of hostile servers and folders end in one clear line, before anything is done with them."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from gateway.cli import client
from gateway.cli.failures import CliError
from gateway.cli.remotes import shapes
from gateway.cli.remotes.server import ByteClient, ServerRepo
from gateway.cli.servers import Server
from tests.gateway.cli.remotes.test_server import repo

HASH = "a" * 64
Ask = Callable[[ServerRepo], Any]


def refs(place: ServerRepo) -> Any:
    return place.refs()


def history(place: ServerRepo) -> Any:
    return place.history()


def record(place: ServerRepo) -> Any:
    return place.record(HASH, with_data=True)


def missing(place: ServerRepo) -> Any:
    return place.missing([HASH], [HASH])


def offer(place: ServerRepo) -> Any:
    return place.offer_blob(HASH, 10)


def listed(**fields: Any) -> dict[str, Any]:
    return {"refs": [{"name": "main", "kind": "branch", "commit": HASH, **fields}]}


def page(**fields: Any) -> dict[str, Any]:
    return {"commits": [{"id": HASH, "adapter": HASH, "parents": [], **fields}], "next": None}


def described(**fields: Any) -> dict[str, Any]:
    return {"id": HASH, "description": {}, "notes": {}, "has_weights": True, **fields}


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        *((ask, answer) for ask in (refs, history, record, missing, offer) for answer in ([], 5, None, "x", {})),
        (refs, {"refs": 5}),
        (refs, {"refs": [5]}),
        *((refs, listed(name=name)) for name in ("../up", "a/b", "", "\x1b[2J", "x" * 129, "main\n", 7, None)),
        *((refs, listed(commit=commit)) for commit in ("../up", "A" * 64, HASH + "\n", 7, [HASH])),
        (refs, listed(kind=None)),
        *((history, page(id=commit)) for commit in ("../up", 5, None)),
        (history, page(adapter="../../etc/passwd")),
        *((history, page(parents=parents)) for parents in (5, [HASH], [{"id": "../up"}], [None], {"id": HASH})),
        (history, {**page(), "next": 5}),
        (history, {**page(), "next": HASH}),
        (record, described(description=[])),
        (record, described(notes=[1])),
        (record, described(has_weights="yes")),
        (record, described(data=[1])),
        (missing, {"missing_commits": [5], "missing_blobs": []}),
        (offer, {"size": -1, "is_complete": False}),
        (offer, {"size": 11, "is_complete": False}),
        (offer, {"size": "5", "is_complete": False}),
    ],
)
def test_wrong_answers_of_a_server_are_one_line(ask: Ask, answer: Any) -> None:
    with pytest.raises(CliError) as raised:
        ask(repo(lambda request: httpx.Response(200, json=answer)))
    assert "\n" not in raised.value.message and "\x1b" not in raised.value.message


def test_right_answers_are_read() -> None:
    assert refs(repo(lambda request: httpx.Response(200, json=listed())))["main"].commit == HASH
    assert history(repo(lambda request: httpx.Response(200, json=page())))[HASH].parents == ()
    names = {"refs": [{"name": "origin/main", "kind": "remote", "commit": HASH}, *listed(commit=None)["refs"]]}
    assert refs(repo(lambda request: httpx.Response(200, json=names))) == {}


def test_bodies_without_an_end_or_of_great_depth_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_BYTES", 1 << 20)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b" " * (1 << 16)

    for ask in (refs, history, record, missing, offer):
        for status in (200, 500):
            with pytest.raises(CliError, match="sends an answer of more than 1 MiB"):
                ask(repo(lambda request, status=status: httpx.Response(status, content=endless())))
    assert sent < 40 << 20
    for content in (b"[" * 100_000, b"{", b"\xff", b"", b"<html>"):
        with pytest.raises(CliError, match="is not a Bread gateway"):
            refs(repo(lambda request, content=content: httpx.Response(200, content=content)))
        with pytest.raises(CliError, match="HTTP 500"):
            refs(repo(lambda request, content=content: httpx.Response(500, content=content)))


@pytest.mark.parametrize("place", ["file:///etc/passwd", "http://evil.example/", "http://169.254.169.254/latest"])
def test_redirects_are_not_followed(place: str) -> None:
    """The key would go with them."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"Location": place, "Content-Length": "5"}, content=b"moved")

    for ask in (refs, history, record, missing, offer):
        with pytest.raises(CliError, match="HTTP 307"):
            ask(repo(answer))
    with pytest.raises(CliError, match="HTTP 307"):
        repo(answer).blob_size(HASH)
    with pytest.raises(CliError, match="HTTP 307"):
        list(repo(answer).read_blob(HASH, 0))
    assert {*asked} == {"host"}


def test_headers_without_an_end_are_not_read() -> None:
    sent = 0

    def serve(listener: socket.socket) -> None:
        nonlocal sent
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while sent < 1 << 30:
                sent += connection.send(b"x" * (1 << 16))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}", "key")
        place = ServerRepo(ByteClient(server), "hooli")
        with pytest.raises(CliError, match=r"the connection to .* broke"):
            refs(place)
        place.client.close()
        thread.join()
    assert sent < 64 << 20


@pytest.mark.parametrize("length", [None, "-1", "1e9", "9" * 20, "x"])
def test_an_adapter_without_a_length_is_not_fetched(length: str | None) -> None:
    headers = {} if length is None else {"Content-Length": length}
    with pytest.raises(CliError, match="does not say how long"):
        repo(lambda request: httpx.Response(200, headers=headers)).blob_size(HASH)


@pytest.mark.parametrize("digest", [None, 5, [], "sha256:" + "A" * 64, "sha256:../up", "md5:" + HASH])
def test_digests_are_checked(digest: Any) -> None:
    with pytest.raises(CliError, match="is no digest"):
        shapes.hash_of(digest)
    assert shapes.hash_of(f"sha256:{HASH}") == HASH
    assert not shapes.is_name(digest) and shapes.is_name("v1.0-rc_2")
