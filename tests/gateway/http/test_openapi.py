"""The OpenAPI document has what Litestar can't derive from the routes."""

import re

import pytest

from gateway.http.openapi import ALWAYS_REFUSED, INFERENCE_BODIES, PARAMETERS, STREAMED
from tests.gateway.application import Client

pytestmark = pytest.mark.anyio


async def test_the_document_and_its_page_need_no_key(client: Client) -> None:
    del client.headers["Authorization"]
    assert "<html" in (await client.get("/schema")).text
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


async def test_every_operation_says_what_it_does_takes_and_answers(client: Client) -> None:
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    operations = [(f"{method} {path}", operation) for path, own in paths.items() for method, operation in own.items()]
    assert len(operations) > 60
    for name, operation in operations:
        assert re.fullmatch(r"[A-Z][a-z ]+", operation["summary"]), name
        assert re.search(r"^[A-Z0-9`].*[.]", operation["description"]), name
        for parameter in operation.get("parameters", []):
            assert parameter.get("description") or parameter["schema"].get("description"), (name, parameter["name"])
        statuses = set(operation["responses"])
        path = name.partition(" ")[2]
        assert any(status.startswith("2") for status in statuses) or path in ALWAYS_REFUSED, name
        assert {"400", "401", "404", "422", "503"} <= statuses, name
        assert all(response["description"] for response in operation["responses"].values()), name
    declared = {parameter["name"] for _, operation in operations for parameter in operation.get("parameters", [])}
    assert set(PARAMETERS) <= declared, "a description that no operation uses"
