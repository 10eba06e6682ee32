"""`X-Request-Id` in requests and answers."""

from pathlib import Path

import pytest

from gateway.http.request_ids import request_id
from tests.gateway.application import Client, client_of, holding, services_in
from tests.gateway.inference.scripted import CHAT, Scripted

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/models", 200), ("/v1/models/gone", 404), ("/nowhere", 404), ("/v1/completions", 405)]
)
async def test_every_answer_has_the_requests_id(client: Client, path: str, status: int) -> None:
    answer = await client.get(path, headers={"X-Request-Id": "abc-123"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (status, "abc-123")
    ours = {(await client.get(path)).headers["x-request-id"] for _ in range(2)}
    assert len(ours) == 2
    assert (await client.get(path, headers=holding("wrong"))).headers["x-request-id"]


@pytest.mark.parametrize("sent", ["", "two words", "x" * 129, 'quote"', "über"])
async def test_an_invalid_id_is_replaced(sent: str, tmp_path: Path) -> None:
    scripted = Scripted()
    async with client_of(services_in(tmp_path, handlers=scripted)) as client:
        headers = [(b"x-request-id", sent.encode())]
        answer = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert len(answer.headers["x-request-id"]) == 32
    assert scripted.headers["x-request-id"] == answer.headers["x-request-id"], "the engine knows it by the same id"


def test_the_id_of_a_request_does_not_change() -> None:
    scope = {"state": {}, "headers": [(b"x-request-id", b"not valid")]}
    assert request_id(scope) == request_id(scope)
    scope = {"state": {}, "headers": [(b"x-request-id", b"valid:1"), (b"x-request-id", b"second")]}
    assert request_id(scope) == "valid:1"
