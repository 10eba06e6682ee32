"""Requests to a server: what is sent, and how its refusals read."""

from typing import Any

import httpx
import pytest

from gateway.cli.client import Client, Unreachable, reason
from gateway.cli.failures import CliError, Exit
from gateway.cli.servers import Server

SERVER = Server("http://gateway.local", "sk-1")


def client_of(answer: Any, server: Server = SERVER, user: str | None = None) -> Client:
    return Client(server, user=user, transport=httpx.MockTransport(answer))


def test_a_request_has_the_key_the_user_and_only_parameters_that_are_set() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"ok": 1})

    client = client_of(answer, user="alice")
    assert client.get("/v1/x", all=True, after=None, limit=2, first=False) == {"ok": 1}
    assert str(seen[0].url) == "http://gateway.local/v1/x?all=true&limit=2"
    assert (seen[0].headers["authorization"], seen[0].headers["x-user-id"]) == ("Bearer sk-1", "alice")
    client.close()


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, Exit.USAGE), (422, Exit.USAGE), (404, Exit.NOT_FOUND), (409, Exit.CONFLICT), (403, Exit.UNAVAILABLE),
     (429, Exit.UNAVAILABLE), (500, Exit.UNAVAILABLE)],
)  # fmt: skip
def test_a_refusal_has_the_servers_reason_and_an_exit_code(status: int, code: Exit) -> None:
    client = client_of(lambda request: httpx.Response(status, json={"message": "no\x1b[2J,\nbecause"}))
    with pytest.raises(CliError) as error:
        client.get("/v1/x")
    assert (error.value.code, error.value.status) == (code, status)
    assert error.value.message == "no\\x1b[2J, because"


@pytest.mark.parametrize(
    ("key", "user"), [("sk-secret\r", None), ("sk-secret\nx", None), ("ключ", None), ("sk-1", "ü")]
)
def test_a_key_or_user_that_can_not_be_sent_is_refused_without_showing_it(key: str, user: str | None) -> None:
    client = client_of(lambda request: httpx.Response(200, json={}), Server("http://gateway.local", key), user)
    with pytest.raises(CliError, match="can't be sent") as error:
        client.get("/v1/x")
    assert error.value.code == Exit.USAGE and key not in error.value.message
    assert ("the user for" if user else "the key for") in error.value.message


@pytest.mark.parametrize(("key", "words"), [(None, "wants a key"), ("sk-1", "does not know this key")])
def test_a_wrong_key_leads_to_login(key: str | None, words: str) -> None:
    client = client_of(lambda request: httpx.Response(401, json={"message": "no"}), Server("http://gateway.local", key))
    with pytest.raises(CliError, match=f"{words}: run `bread login`"):
        client.get("/v1/x")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectError("refused"), "is `make serve` running there"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (httpx.RemoteProtocolError("cut"), "broke"),
    ],
)
def test_no_answer_is_said_in_one_line(failure: Exception, words: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(Unreachable, match=words) as error:
        client_of(answer).get("/v1/x")
    assert "\n" not in error.value.message


@pytest.mark.parametrize("url", ["nonsense", "http://host:port", "http://a\x00b"])
def test_an_impossible_url_is_wrong_usage(url: str) -> None:
    with pytest.raises(CliError) as error:
        Client(Server(url, "k")).get("/v1/x")
    assert error.value.code == Exit.USAGE


def test_a_page_of_another_server_is_no_gateway() -> None:
    with pytest.raises(CliError, match="not a Bread gateway"):
        client_of(lambda request: httpx.Response(200, text="<html>")).get("/v1/x")
    with pytest.raises(CliError, match="no such operation"):
        client_of(lambda request: httpx.Response(404, text="<html>")).get("/v1/x")


def test_what_is_missing_is_none_to_find() -> None:
    client = client_of(lambda request: httpx.Response(404, json={"message": "none"}))
    assert client.find("/v1/x") is None
    with pytest.raises(CliError, match="broken"):
        client_of(lambda request: httpx.Response(500, json={"message": "broken"})).find("/v1/x")


def test_events_come_by_name_and_a_plain_answer_is_the_result() -> None:
    stream = 'event: progress\ndata: {"done": 1}\n\n: ping\n\nevent: result\ndata: {"a": 2}\n\n'
    headers = {"content-type": "text/event-stream"}
    client = client_of(lambda request: httpx.Response(200, text=stream, headers=headers))
    assert list(client.events("/v1/x", {})) == [("progress", {"done": 1}), ("result", {"a": 2})]
    client = client_of(lambda request: httpx.Response(200, json={"a": 2}))
    assert list(client.events("/v1/x", {})) == [("result", {"a": 2})]
    client = client_of(lambda request: httpx.Response(404, json={"message": "none"}))
    with pytest.raises(CliError, match="none"):
        list(client.events("/v1/x", {}))


def test_the_reason_is_found_in_every_shape_of_error() -> None:
    assert reason({"message": "a"}) == "a"
    assert reason({"error": {"message": "b"}}) == "b"
    assert reason({"detail": [{"loc": ["x"], "msg": "c"}, {"msg": "d"}]}) == "c; d"
    assert reason(["e"]) == reason({}) == reason(None) == ""
