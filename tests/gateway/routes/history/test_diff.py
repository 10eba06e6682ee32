"""The route of diffs: bodies, events, errors. What a diff is, is tested in tests/baker/comparison."""

import asyncio
import json
from typing import Any

import pytest

from baker.errors import EngineError
from baker.trajectories.neutral import questions
from gateway.services import Services
from tests.gateway.application import Client
from tests.gateway.routes.history.compared import grow

pytestmark = pytest.mark.anyio
PATH = "/v1/repo/repo/diff"


def events(text: str) -> list[tuple[str, Any]]:
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


async def test_a_diff_has_the_parts_that_were_asked_for(client: Client, services: Services) -> None:
    first, second = await grow(services)
    answer = await client.post(PATH, json={"a": "first", "b": "second", "include": ["stat", "recipe"]})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["a"]["id"], result["b"]["id"]) == (first.commit_id, second.commit_id)
    assert result["b"] == {
        "id": second.commit_id,
        "short_id": second.commit_id and second.commit_id[:12],
        "message": "second step 3",
        "kind": "bake",
        "created": second.created,
        "model": "admin/repo/second/3",
    }
    assert [(stat["kind"], stat["rows"], stat["kl"]) for stat in result["stat"]] == [("neutral", len(questions()), 0.0)]
    assert result["patch"] is result["tokens"] is result["weights"] is None
    assert result["recipe"] == ""
    assert "no held-out rows" not in str(result["warnings"]) and len(result["warnings"]) == 1
    again = await client.post(PATH, json={"a": "second~1", "b": "second", "include": ["stat", "recipe"]})
    assert again.content == answer.content


async def test_the_base_model_is_named_base(client: Client, services: Services) -> None:
    await grow(services)
    body = {"a": "base", "b": "first", "questions": ["Who?"], "include": ["stat"]}
    result = (await client.post(PATH, json=body)).json()
    assert result["a"] == {
        "id": "base",
        "short_id": "base",
        "message": "the base model",
        "kind": "base",
        "created": None,
        "model": None,
    }
    assert [stat["name"] for stat in result["stat"]] == ["questions", "neutral"]


async def test_streamed_it_ends_with_the_same_result(client: Client, services: Services) -> None:
    await grow(services)
    body = {"a": "first", "b": "second", "include": ["stat", "tokens"], "questions": ["Who?"]}
    *progress, (last, result) = events((await client.post(PATH, json={**body, "stream": True})).text)
    assert {name for name, _ in progress} == {"progress"}
    total = 2 * len(questions()) + 3
    assert [report for _, report in progress] == [{"done": done, "total": total} for done in range(total + 1)]
    assert (last, result) == ("result", (await client.post(PATH, json=body)).json())
    assert result["tokens"]["positions"] > 0


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"a": "third"}, 404, "Repo 'repo' has no revision 'third'"),
    ({"a": "first@0.5"}, 400, "strength"),
    ({"a": "first ~"}, 400, "not a revision"),
    ({"probe": "p"}, 404, "Probe 'p' not found"),
    ({"limit": 0}, 422, "limit"),
    ({"max_rows": 257}, 422, "max_rows"),
    ({"include": ["stats"]}, 422, "include"),
    ({"questions": ["a"], "conversations": []}, 422, "give either"),
    ({"colour": True}, 422, "colour"),
]
"""(changes of a body, status, part of the message)"""


async def test_wrong_requests_have_a_status_of_their_own(client: Client, services: Services) -> None:
    await grow(services)
    for stream in (False, True):
        for changes, status, message in WRONG:
            refused = await client.post(PATH, json={"a": "first", "b": "second", "stream": stream, **changes})
            assert refused.status_code == status, refused.text
            assert message in refused.json()["message"]


async def test_while_the_engine_is_away_it_is_503(client: Client, services: Services) -> None:
    await grow(services)
    engine: Any = services.engine
    body = {"a": "first", "b": "second", "include": ["stat"]}

    async def away(*arguments: Any) -> None:
        raise EngineError("the engine is not running yet")

    right, engine.distribution = engine.distribution, away
    for stream in (False, True):
        refused = await client.post(PATH, json={**body, "stream": stream})
        if stream:
            name, content = events(refused.text)[-1]
            assert (name, content["code"]) == ("error", "UNAVAILABLE")
        else:
            assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
            assert refused.headers["retry-after"]
    engine.distribution = right
    assert (await client.post(PATH, json=body)).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_work(client: Client, services: Services, stream: bool) -> None:
    await grow(services)
    body = {"a": "first", "b": "second", "include": ["stat"]}
    await client.post(PATH, json={**body, "questions": ["Who?"]})  # has the neutral answers made
    engine: Any = services.engine
    engine.asked.clear()
    engine.gate.clear()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not engine.asked.is_set() and not sent:
            sent.append(None)
            content = json.dumps({**body, "questions": ["Why?"], "stream": stream}).encode()
            return {"type": "http.request", "body": content, "more_body": False}
        await engine.asked.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [
        (b"authorization", b"Bearer sk-bread-test"),
        (b"content-type", b"application/json"),
        (b"host", b"localhost"),
    ]
    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "root_path": "",
        "app": client.app,
        "state": {},
    }
    async with asyncio.timeout(30):
        await client.app(scope, receive, send)
    assert engine.running == 0, "the request to the engine was cancelled"
    assert b"result" not in b"".join(message.get("body", b"") for message in sent[1:])
    engine.gate.set()
