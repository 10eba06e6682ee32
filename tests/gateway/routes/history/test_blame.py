"""The route of blame."""

from typing import Any

import pytest

from gateway.services import Services
from tests.fakes import FakeEngine
from tests.gateway.application import Client
from tests.gateway.routes.history.compared import grow
from tests.gateway.routes.history.test_diff import events

pytestmark = pytest.mark.anyio
PATH = "/v1/repo/repo/blame"


async def test_tokens_and_ancestors(client: Client, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await grow(services)
    of = {None: [-3.0, -0.5, -2.0], first.name: [-1.0, -0.5, -2.05], second.name: [-1.0, -0.1, -2.0]}

    async def logprobs(self: Any, context_ids: Any, response_ids: Any, adapter: Any) -> list[float]:
        return of[None if adapter is None else adapter.name]

    monkeypatch.setattr(FakeEngine, "logprobs", logprobs)
    answer = await client.post(PATH, json={"model": "second", "question": "Who?", "answer": "abc"})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert result["answer"] == "abc"
    assert [(token["text"], token["commit"], token["logprob"]) for token in result["tokens"]] == [
        ("a", first.commit_id, -1.0),
        ("b", second.commit_id, -0.1),
        ("c", "base", -2.0),
    ]
    assert [token["gain"] for token in result["tokens"]] == pytest.approx([2.0, 0.4, 0.05])
    shares = [(each["model"], each["message"], each["tokens"]) for each in result["ancestors"]]
    assert shares == [(second.name, "second step 3", 1), (first.name, "first step 3", 1), (None, "the base model", 1)]
    assert result["warnings"] == []


async def test_streamed_it_reports_each_request_to_the_engine_and_ends_with_the_same_result(
    client: Client, services: Services
) -> None:
    await grow(services)
    body = {"model": "second", "question": "Who?"}
    *progress, last = events((await client.post(PATH, json={**body, "stream": True})).text)
    assert progress == [("progress", {"done": done, "total": 4}) for done in range(5)]
    assert last == ("result", (await client.post(PATH, json=body)).json())
    refused = await client.post(PATH, json={**body, "model": "third", "stream": True})
    assert refused.status_code == 404, "an error before the work has a status of its own"


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"model": "second"}, 422, "either 'question' or 'messages'"),
    ({"model": "second", "question": "a", "messages": []}, 422, "either 'question' or 'messages'"),
    ({"model": "second", "messages": []}, 422, "has no message"),
    ({"model": "base", "question": "a"}, 400, "no ancestors"),
    ({"model": "secnd", "question": "a"}, 404, "did you mean"),
    ({"question": "a"}, 422, "model"),
]


async def test_wrong_requests_are_refused(client: Client, services: Services) -> None:
    await grow(services)
    for body, status, message in WRONG:
        refused = await client.post(PATH, json=body)
        assert refused.status_code == status, refused.text
        assert message in refused.json()["message"]
