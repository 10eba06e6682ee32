"""Every failure ends in one clear sentence, or two: what happened, what to do."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from chat_with_model import ChatClient, ChatError, Conversation, reason
from tests.chat.server import (
    KEY,
    Behaviour,
    Server,
    breaks_after,
    event,
    ignore,
    refuses,
    sends,
)

NGINX = """<html>\r\n<head><title>502 Bad\n Gateway</title></head>\r\n<body><h1>502 &amp; more</h1></body></html>"""
NO_API = "answers, but not as OpenAI's chat API does: check the base URL"


def check_sentence(text: str) -> None:
    """It is for people: no traceback, no dict, no HTML, no control characters, and it ends."""
    assert re.fullmatch(r"[^{}<>\x00-\x1f\x7f-\x9f]+[.?]", text), text
    assert "Error" not in text and "Errno" not in text, text
    assert ".." not in text, text


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (
            refuses(401, {"error": {"message": "bad key", "type": "auth"}}),
            "The server refuses the key (HTTP 401): bad key. Start the chat again with BREAD_API_KEY as in the .env "
            "of `make serve`, or with --api-key.",
        ),
        (refuses(404, {"error": {"message": "no model x"}}), "Not found (HTTP 404): no model x."),
        (
            refuses(503, {"error": {"message": "asleep."}}, {"Retry-After": "7"}),
            "The model can't answer yet (HTTP 503): asleep. Try again in 7 s.",
        ),
        (
            refuses(429, {"error": {"message": "3 of 3 requests"}}, {"Retry-After": "20"}),
            "Too many requests (HTTP 429): 3 of 3 requests. Try again in 20 s.",
        ),
        (
            refuses(400, {"error": {"message": "5000 tokens\n"}}),
            "The server refuses the request (HTTP 400): 5000 tokens.",
        ),
        (
            refuses(422, {"message": "bad", "error": "bad field"}),
            "The server refuses the request (HTTP 422): bad field.",
        ),
        (
            refuses(422, {"detail": [{"loc": ["body", "n"], "msg": "too large", "type": "x"}, {"msg": "b"}]}),
            "The server refuses the request (HTTP 422): body.n: too large; b.",
        ),
        (refuses(502, NGINX), "The service behind the proxy does not answer (HTTP 502): 502 Bad Gateway."),
        (refuses(504, "<p>\x1b[2Jslow<br>proxy</p>"), "The answer took too long (HTTP 504): [2Jslow proxy."),
        (refuses(500, ""), "The server failed (HTTP 500): it gives no reason."),
        (refuses(500, {"error": {"code": 7}}), "The server failed (HTTP 500): it gives no reason."),
        (refuses(500, "[" * 100_000), "The server failed (HTTP 500): " + "[" * 200 + "."),
        (refuses(418, b"caf\xe9 \xff"), "The server refuses the request (HTTP 418): caf\ufffd \ufffd."),
        (refuses(200, "<html>hello"), NO_API),
        (
            refuses(307, "", {"Location": "https://a.example/v1"}),
            "sends requests on to https://a.example/v1: check the",
        ),
        (sends(event({"error": {"message": "out of memory"}})), "The server gave up on the answer: out of memory."),
        (sends(event({"error": {"code": 7}})), "The server gave up on the answer: it gives no reason."),
        (sends(b"data: {not json\n\n"), NO_API),
        (sends(b"data: [1]\n\n"), NO_API),
        (sends(event({"choices": [{"delta": {"content": ["a"]}}]})), NO_API),
        (sends(b"data: " + b"[" * 100_000 + b"\n\n"), NO_API),
        (
            sends(event({"choices": [{"delta": {}, "finish_reason": "abort"}]})),
            "The server ended the answer before it was complete.",
        ),
        (breaks_after("half"), "broke before the answer was complete."),
    ],
)
def test_a_failed_answer_is_explained(
    server: Server, conversation: Conversation, behaviour: Behaviour, message: str
) -> None:
    server.next = [behaviour, behaviour]  # a length that the server refuses (400) is left out at a second try
    with pytest.raises(ChatError) as failed:
        asyncio.run(conversation.ask("one", ignore))
    assert message in str(failed.value)
    check_sentence(str(failed.value))


def test_a_token_count_of_the_wrong_type_is_no_error(server: Server, conversation: Conversation) -> None:
    last = {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}], "usage": {"completion_tokens": "9"}}
    server.next = [sends(event({"choices": [{"delta": {"content": "a"}}]}), event(last), b"data: [DONE]\n\n")]
    turn = asyncio.run(conversation.ask("one", ignore))
    assert (turn.answer, turn.tokens) == ("ab", None)


def test_invalid_utf8_in_an_answer_is_replaced(server: Server, conversation: Conversation) -> None:
    server.next = [sends(b'data: {"choices":[{"delta":{"content":"caf\xe9!"},"finish_reason":"stop"}]}\n\n')]
    assert asyncio.run(conversation.ask("one", ignore)).answer == "caf\ufffd!"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("text", "text"),
        ({"error": "short"}, "short"),
        ({"error": {"message": {"detail": [{"msg": "deep"}]}}}, "deep"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "busy"),
        ({"title": "Forbidden", "status": 403}, "Forbidden"),
        ([{"message": "a"}, {"message": "b"}], "a; b"),
        ({"error": None, "ok": True}, ""),
        (7, ""),
        (None, ""),
    ],
)
def test_the_reason_is_found_in_every_shape_of_error(body: Any, text: str) -> None:
    assert reason(body) == text


def test_a_server_that_is_down_is_named() -> None:
    with Server() as down:
        client = ChatClient(down.url, KEY)
        message = f"Cannot reach {down.url} (Connection refused). Is `make serve` running there?"
        with pytest.raises(ChatError) as failed:
            client.models()
        assert str(failed.value) == message
        with pytest.raises(ChatError) as failed:
            asyncio.run(Conversation(client, "a/b").ask("hi", ignore))
        assert str(failed.value) == message
        client.close()


@pytest.mark.parametrize(("url", "key"), [("http://127.0.0.1:port", KEY), ("http://127.0.0.1", "cl\u00e9")])
def test_an_impossible_url_or_key_is_refused(url: str, key: str) -> None:
    with pytest.raises(ChatError, match="Cannot use base URL"):
        ChatClient(url, key)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "localhost", "ftp://127.0.0.1", "http://127.0.0.1:65537", "http://no-such-host.invalid"]
)
def test_the_error_names_a_url_that_can_t_be_reached(url: str) -> None:
    with pytest.raises(ChatError, match=f"Cannot (reach|use base URL) '?{url}") as failed:
        ChatClient(url, KEY).models()
    check_sentence(str(failed.value))


# What the server knows about a model


@pytest.mark.parametrize(
    ("name", "answering"),
    [
        ("base/Smol-135M", "base/Smol-135M"),
        ("hooli/gavin_bake", "alice/hooli/gavin_bake/21"),
        ("hooli/gavin_bake/7", "alice/hooli/gavin_bake/7"),
        ("hooli/gavin_bake@0.5", "alice/hooli/gavin_bake/21@0.5"),
    ],
)
def test_the_server_says_which_model_answers_to_a_name(conversation: Conversation, name: str, answering: str) -> None:
    assert conversation.client.model(name) == answering


def test_a_server_with_only_the_list_is_asked_for_that(server: Server, conversation: Conversation) -> None:
    server.has_model_route = False
    assert conversation.client.model("base/Smol-135M") == "base/Smol-135M"
    with pytest.raises(ChatError) as failed:
        conversation.client.model("base/Smol-136M")
    assert failed.value.status == 404


@pytest.mark.parametrize("answer", [{"id": 5}, {}, [], "text"])
def test_a_model_route_of_another_kind_is_an_error(server: Server, conversation: Conversation, answer: Any) -> None:
    server.bodies_by_path["/v1/models/a/b"] = answer
    with pytest.raises(ChatError) as failed:
        conversation.client.model("a/b")
    check_sentence(str(failed.value))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({"status": "running", "progress_percent": 39.6}, "The bake gavin_bake is in training, 40% done."),
        ({"status": "pending", "progress_percent": None}, "The bake gavin_bake waits for its training."),
        ({"status": "failed", "error": "disk full."}, "The bake gavin_bake failed: disk full."),
        ({"status": "complete", "progress_percent": 100.0}, ""),
        ({"status": "not_started"}, ""),
        ({"unknown": 1}, ""),
        ([], ""),
    ],
)
@pytest.mark.parametrize("name", ["hooli/gavin_bake", "hooli/gavin_bake/21", "hooli/gavin_bake@0.5"])
def test_an_unfinished_bake_says_what_it_does(
    server: Server, conversation: Conversation, name: str, status: Any, text: str
) -> None:
    server.bodies_by_path["/v1/repo/hooli/bakes/gavin_bake"] = status
    assert conversation.client.training(name) == text


def test_a_bake_of_another_user_is_asked_for_as_that_user(server: Server, conversation: Conversation) -> None:
    server.bodies_by_path["/v1/repo/hooli/bakes/gavin_bake?user_id=alice"] = {"status": "pending"}
    assert conversation.client.training("alice/hooli/gavin_bake/7")
    assert not conversation.client.training("hooli/gavin_bake")


@pytest.mark.parametrize("name", ["Smol", "a/b/c/d/e", "", "/"])
def test_a_name_that_is_no_bakes_has_no_training(conversation: Conversation, name: str) -> None:
    assert conversation.client.training(name) == ""
