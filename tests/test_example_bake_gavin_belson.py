"""The example's errors. tests/behaviour/test_first_bake.py runs it against the real service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import example_bake_gavin_belson


class Replies(ThreadingHTTPServer):
    """Answers every request in the same way."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.type = 200, b"", "application/json"


class Handler(BaseHTTPRequestHandler):
    server: Replies

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.type)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("x-should-retry", "false")
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def replies() -> Iterator[Replies]:
    with Replies() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def error_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """error_of(VARIABLE=value): the text that the example ends with."""
    monkeypatch.chdir(tmp_path)

    def run(**variables: str) -> str:
        for name in ("BREAD_API_KEY", "BREAD_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            example_bake_gavin_belson.main()
        return str(ended.value.code).strip()

    return run


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            401,
            b'{"message": "The API key is unknown", "code": "UNAUTHORIZED", "error": "The API key is unknown"}',
            "(HTTP 401): The API key is unknown. Set BREAD_API_KEY to the key in the .env of `make serve`.",
        ),
        (422, b'{"detail": [{"loc": ["body"], "msg": "x"}]}', "(HTTP 422): it gives no reason."),
        (503, b'{"error": "starting."}', "(HTTP 503): starting. Run this script again in a minute"),
        (502, b"<html><head><title>502 Bad\nGateway</title></head></html>", "(HTTP 502): 502 Bad Gateway."),
        (500, b"\xff\xfe", "(HTTP 500): "),
        (200, b"<html><title>Welcome</title></html>", "answers, but is not a Bread gateway: check BREAD_BASE_URL."),
    ],
)
def test_a_refused_request_is_explained(
    replies: Replies, error_of: Callable[..., str], status: int, body: bytes, message: str
) -> None:
    replies.status, replies.body = status, body
    replies.type = "text/html" if body.startswith(b"<") else "application/json"
    url = f"http://127.0.0.1:{replies.server_port}"
    error = error_of(BREAD_API_KEY="sk-test", BREAD_BASE_URL=url)
    assert error.startswith(url)
    assert message in error
    assert not {"{", "}", "<", ">"} & set(error)


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("http://127.0.0.1:9", "", "BREAD_API_KEY is not set"),
        ("http://127.0.0.1:port", "sk-test", "can't be right: Invalid port: 'port'."),
        ("http://127.0.0.1:9", "cl\u00e9", "BREAD_BASE_URL or BREAD_API_KEY can't be right"),
        ("127.0.0.1:9", "sk-test", "Cannot reach 127.0.0.1:9 (Request URL is missing"),
        (
            "http://127.0.0.1:9",
            "sk-test",
            "Cannot reach http://127.0.0.1:9 (Connection refused). Is `make serve` running there?",
        ),
    ],
)
def test_wrong_settings_are_explained(error_of: Callable[..., str], url: str, key: str, message: str) -> None:
    assert message in error_of(BREAD_BASE_URL=url, BREAD_API_KEY=key)


def test_a_number_of_questions_that_is_none_is_explained(
    error_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_bake_gavin_belson, "QUESTIONS_FROM_A_MODEL", "many")
    assert error_of(BREAD_API_KEY="sk-test").startswith("NUMQ is 'many': it must be a whole number")
