"""Long requests, without a terminal here; tests/clients/test_cli.py has a terminal."""

import io
import sys

import httpx
import pytest

from gateway.cli.client import Client
from gateway.cli.failures import CliError
from gateway.cli.progress import post_with_progress
from gateway.cli.servers import Server


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def client_of(text: str) -> Client:
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=text, headers=headers))
    return Client(Server("http://gateway.local", "k"), transport=transport)


def test_without_a_terminal_it_is_one_request() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"sent": request.content.decode()}))
    client = Client(Server("http://gateway.local", "k"), transport=transport)
    assert post_with_progress(client, "/v1/x", {"a": 1}, "working") == {"sent": '{"a":1}'}


def test_in_a_terminal_progress_is_shown_and_the_result_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    client = client_of('event: progress\ndata: {"done": 1, "total": 2}\n\nevent: result\ndata: {"a": 2}\n\n')
    assert post_with_progress(client, "/v1/x", {}, "comparing") == {"a": 2}
    assert "comparing" in terminal.getvalue()


@pytest.mark.parametrize(
    ("events", "words"),
    [('event: error\ndata: {"message": "engine died"}\n\n', "engine died"), ("", "before it was complete")],
)
def test_a_stream_without_a_result_is_an_error(events: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(CliError, match=words):
        post_with_progress(client_of(events), "/v1/x", {}, "comparing")
