"""The route of bisect."""

from typing import Any

import pytest

from gateway.services import Services
from tests.fakes import FakeEngine
from tests.gateway.application import Client
from tests.gateway.routes.history.compared import grow
from tests.gateway.routes.history.test_diff import events

pytestmark = pytest.mark.anyio
PATH = "/v1/repo/repo/bisect"


async def test_steps_flips_and_the_first_bad(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await grow(services)
    scores = {None: -0.5, first.name: -0.6, second.name: -4.0}

    async def logprobs(self: Any, context_ids: Any, response_ids: Any, adapter: Any) -> list[float]:
        return [scores[None if adapter is None else adapter.name]] * len(response_ids)

    monkeypatch.setattr(FakeEngine, "logprobs", logprobs)
    body = {"good": "base", "bad": "second", "question": "Refund?", "expect": "30 days"}
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert [(step["commit"], step["score"], step["state"]) for step in result["steps"]] == [
        ("base", pytest.approx(-0.5), "good"),
        (first.commit_id, pytest.approx(-0.6), "good"),
        (second.commit_id, pytest.approx(-4.0), "bad"),
    ]
    assert (result["flips"], result["first_bad"]) == ([second.commit_id], second.commit_id)
    assert result["steps"][2]["model"] == second.name


async def test_without_an_expectation_it_returns_the_answers(client: Client, services: Services) -> None:
    await grow(services)
    result = (await client.post(PATH, json={"good": "first", "bad": "second", "question": "hi", "samples": 2})).json()
    assert [step["answers"] for step in result["steps"]] == [["USER: HI"] * 2] * 2
    assert [step["state"] for step in result["steps"]] == [None, None]
    assert (result["flips"], result["first_bad"]) == ([], None)


async def test_streamed_it_reports_each_request_to_the_engine_and_ends_with_the_same_result(
    client: Client, services: Services
) -> None:
    await grow(services)
    body = {"good": "base", "bad": "second", "question": "Who?", "samples": 2}
    *progress, last = events((await client.post(PATH, json={**body, "stream": True})).text)
    assert progress == [("progress", {"done": done, "total": 6}) for done in range(7)]
    assert last == ("result", (await client.post(PATH, json=body)).json())
    refused = await client.post(PATH, json={**body, "bad": "third", "stream": True})
    assert refused.status_code == 404, "an error before the work has a status of its own"


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"good": "second", "bad": "first"}, 400, "no ancestor"),
    ({"expect": "x"}, 400, "do the same"),
    ({"pattern": "("}, 400, "not a regular expression"),
    ({"samples": 0}, 422, "samples"),
    ({"question": None}, 422, "either 'question' or 'messages'"),
]


async def test_wrong_requests_are_refused(client: Client, services: Services) -> None:
    await grow(services)
    for changes, status, message in WRONG:
        refused = await client.post(PATH, json={"good": "first", "bad": "second", "question": "hi", **changes})
        assert refused.status_code == status, refused.text
        assert message in refused.json()["message"]
