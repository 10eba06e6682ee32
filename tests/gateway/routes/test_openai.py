"""OpenAI's routes, with a fake engine. On a real one: tests/clients/test_openai.py."""

import pytest

from baker.types import Checkpoint
from gateway.services import Services
from tests.gateway.application import Client

pytestmark = pytest.mark.anyio


async def test_models_are_listed_and_found(client: Client) -> None:
    models = (await client.get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["fake/base"]
    assert (await client.get("/v1/models/fake/base")).json()["id"] == "fake/base"
    missing = await client.get("/v1/models/repo/bake")
    assert missing.status_code == 404
    assert "fake/base" in missing.json()["error"]["message"]


async def test_a_bakes_models_name_the_base_model_as_their_parent(client: Client, services: Services) -> None:
    services.registry.publish(Checkpoint("admin", "repo", "bake", 3, services.home, "0" * 64, 1234, 1))
    base, pointer, version = (await client.get("/v1/models")).json()["data"]
    assert (base["root"], base["parent"], base["owned_by"]) == ("fake/base", None, "bread")
    assert [model["id"] for model in (pointer, version)] == ["repo/bake", "admin/repo/bake/3"]
    for model in (pointer, version, (await client.get("/v1/models/repo/bake@1")).json()):
        assert (model["root"], model["parent"]) == ("fake/base", "fake/base")
        assert (model["owned_by"], model["created"]) == ("admin", 1234)


async def test_an_unsupported_method_is_refused_in_openais_shape(client: Client) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/models"):
        refused = await client.patch(path, json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (405, 405)


async def test_a_very_long_name_is_not_sent_back(client: Client) -> None:
    refused = await client.get(f"/v1/models/{'a' * 60_000}")
    assert refused.status_code == 404
    assert len(refused.content) < 1000


async def test_routes_that_are_not_offered_say_why(client: Client) -> None:
    embeddings = await client.post("/v1/embeddings", json={"model": "fake/base", "input": "Hi"})
    assert (embeddings.status_code, "no embeddings" in embeddings.text) == (400, True)
    unknown = await client.post("/v1/embeddings", json={"model": "no/such", "input": "Hi"})
    assert unknown.status_code == 404
    for answer in (await client.get("/v1/responses/resp_1"), await client.post("/v1/responses/resp_1/cancel")):
        assert (answer.status_code, "'resp_1'" in answer.json()["error"]["message"]) == (404, True)
