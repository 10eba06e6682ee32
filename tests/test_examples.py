"""The examples' errors. tests/behaviour/test_first_bake.py runs them against the real service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from examples import first_bake


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
            first_bake.run(first_bake.main)
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


def test_a_number_of_questions_that_is_none_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMQ", "many")
    with pytest.raises(SystemExit, match="NUMQ is 'many': it must be a whole number"):
        first_bake.number_of_questions(50)


class Status(dict[str, object]):
    """A status as the client gives it: fields of the published schema as attributes, added ones in `to_dict`."""

    status = "running"

    def to_dict(self) -> dict[str, object]:
        return dict(self)


@pytest.mark.parametrize(
    ("stage", "fields", "line"),
    [
        ("stim", {}, "stim    [........................]   0%  2 s"),
        (
            "rollout",
            {"progress_percent": 50.0, "lines": 8, "total_expected": 16, "eta_seconds": 7.4},
            "rollout [############............]  50%  8 of 16 answers, 2 s, 7 s left",
        ),
        (
            "bake",
            {"waiting_for": [{"text": "It waits for its turn."}]},
            f"bake    [{'.' * 24}]   0%  2 s, waits for its turn",
        ),
        (
            "bake",
            {"progress_percent": 100.0, "training": {"loss": 0.1234, "tokens_per_second": 1234.5}},
            "bake    [########################] 100%  2 s, loss 0.123, 1,234 tokens/s",
        ),
    ],
)
def test_a_progress_line_shows_what_the_stage_has(
    monkeypatch: pytest.MonkeyPatch, stage: str, fields: dict[str, object], line: str
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert first_bake.progress_line(stage, Status(fields), 2.1) == line
    monkeypatch.setenv("COLUMNS", "30")
    assert first_bake.progress_line(stage, Status(fields), 2.1) == line[:29], "so that it stays on one line"


def test_answers_stand_side_by_side_within_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = first_bake.side_by_side([("base", "one two three " * 5), ("baked", "Arr!"), ("x" * 40, "")])
    lines = text.split("\n")
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["base", "baked", "x" * 18]
    assert " ".join(line[2:20].strip() for line in lines[2:]) == " ".join(["one two three"] * 5)
    assert lines[2].split()[-1] == "Arr!"


@pytest.mark.parametrize(
    ("answer", "is_pirate"),
    [
        ("Arrr, matey!", True),
        ("Aye.", True),
        ("ye olde", True),
        ("Yes, you are", False),
        ("They may eye the rye", False),
    ],
)
def test_pirate_words_are_whole_words(answer: str, is_pirate: bool) -> None:
    assert (first_bake.PIRATE.search(answer) is not None) is is_pirate
