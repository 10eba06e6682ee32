"""The OpenAPI document has what Litestar can't derive from the routes."""

import pytest

from gateway.http.openapi import ALWAYS_REFUSED, INFERENCE_BODIES, STREAMED
from tests.gateway.application import Client

pytestmark = pytest.mark.anyio


async def test_the_document_and_its_page_need_no_key(client: Client) -> None:
    del client.headers["Authorization"]
    assert "<html>" in (await client.get("/schema")).text
    document = (await client.get("/schema/openapi.json")).json()
    assert document["paths"]["/v1/repo/{repo}"]["get"]["responses"]["404"]
    assert document["paths"]["/v1/health"]["get"]["security"] == []


async def test_the_document_has_parameters_errors_and_contents_that_no_handler_declares(client: Client) -> None:
    paths = (await client.get("/schema/openapi.json")).json()["paths"]

    def parameters(path: str, method: str = "get") -> set[str]:
        return {parameter["name"] for parameter in paths[path][method].get("parameters", [])}

    assert {"user_id", "X-User-Id", "repo"} <= parameters("/v1/repo/{repo}/tree")
    assert {"user_id", "X-User-Id"} == parameters("/v1/chat/completions", "post")
    assert not {"user_id", "X-User-Id"} & parameters("/v1/health")
    assert {"429", "504"} <= set(paths["/v1/chat/completions"]["post"]["responses"])
    assert "200" not in paths["/v1/embeddings"]["post"]["responses"]
    assert "text/event-stream" not in paths["/tokenize"]["post"]["responses"]["200"]["content"]
    weights = paths["/v1/files/weights/{user}/{repo}/{bake}/{step}/{file}"]
    assert list(weights["get"]["responses"]["206"]["content"]) == ["application/gzip"]
    assert "206" not in weights["head"]["responses"]


async def test_every_path_that_it_completes_exists(client: Client) -> None:
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    assert {*ALWAYS_REFUSED, *STREAMED, *INFERENCE_BODIES} <= set(paths)
    for path, fields in INFERENCE_BODIES.items():
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["required"] == ["model", *fields]


async def test_errors_have_the_schema_of_the_routes_family(client: Client) -> None:
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    for path, schema in (("/v1/models", "OpenAIError"), ("/v1/messages", "AnthropicError"), ("/v1/repo", "Error")):
        (operation, *_) = paths[path].values()
        content = operation["responses"]["401"]["content"]["application/json"]
        assert content["schema"]["$ref"].endswith(f"/{schema}")


async def test_overrides_are_the_settings_or_null(client: Client) -> None:
    schemas = (await client.get("/schema/openapi.json")).json()["components"]["schemas"]
    overrides = schemas["BakeSet"]["properties"]["overrides"]
    assert overrides == {"anyOf": [{"$ref": "#/components/schemas/BakeConfig"}, {"type": "null"}]}
    assert {"u", "v", "teacher_prompt"} <= set(schemas["TargetConfig"]["properties"])
    assert "oneOf" not in str(schemas), "a value may fit two members of a union"
