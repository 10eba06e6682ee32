"""OpenAI's routes, with a fake engine. On a real one: tests/clients/test_openai.py."""

import pytest

from tests.gateway.application import Client

pytestmark = pytest.mark.anyio


async def test_an_unsupported_method_is_refused_in_openais_shape(client: Client) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/models"):
        refused = await client.patch(path, json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (405, 405)


async def test_routes_that_are_not_offered_say_why(client: Client) -> None:
    embeddings = await client.post("/v1/embeddings", json={"model": "fake/base", "input": "Hi"})
    assert (embeddings.status_code, "no embeddings" in embeddings.text) == (400, True)
    unknown = await client.post("/v1/embeddings", json={"model": "no/such", "input": "Hi"})
    assert unknown.status_code == 404
    for answer in (await client.get("/v1/responses/resp_1"), await client.post("/v1/responses/resp_1/cancel")):
        assert (answer.status_code, "'resp_1'" in answer.json()["error"]["message"]) == (404, True)


@pytest.mark.parametrize("path", ["/tokenizer_info", "/v1/tokenizer_info"])
async def test_the_tokenizers_info_is_served_only_if_the_operator_wants_it(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert "--tokenizer-info on" in answer.json()["error"]["message"]
