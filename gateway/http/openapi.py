"""The API's own description at `/schema`, completed where Litestar can't know: errors, keys, settings, OpenAI's bodies.

Served as `/schema/openapi.json` and as a page to browse at `/schema`.
"""

from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, ScalarRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, OpenAPI, SecurityScheme

import gateway
from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig

JSON = "application/json"
REF = "#/components/schemas/{name}"

STATUSES = (400, 401, 403, 404, 422, 503)
"""Of all operations."""
INFERENCE_STATUSES = (429, 504)
"""A key's limits, and --request-timeout-seconds."""
NEVER_DONE = ("/v1/embeddings", "/v1/responses/{response}", "/v1/responses/{response}/cancel")
"""They only ever refuse."""
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
WEIGHTS = "/v1/files/weights/"
USER = {"type": "string", "description": "With the master key: whom the request acts for."}
ACTING = [
    {"name": "user_id", "in": "query", "required": False, "schema": USER},
    {"name": "X-User-Id", "in": "header", "required": False, "schema": USER},
]
PUBLIC_TAGS = {"health", "files"}
"""Their routes take no key, or a signature in its place."""

ERRORS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["message", "code", "error"],
        "properties": {
            "message": {"type": "string", "description": "What was wrong, with what value, and what to do."},
            "code": {"type": "string"},
            "error": {"type": "string", "description": "The message again."},
            "detail": {
                "type": "array",
                "description": "One entry a mistake.",
                "items": {
                    "type": "object",
                    "required": ["loc", "msg", "type"],
                    "properties": {
                        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                        "msg": {"type": "string"},
                        "type": {"type": "string"},
                    },
                },
            },
        },
    },
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "integer", "null"]},
                },
            }
        },
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

TOKEN_IDS = {"type": "array", "items": {"type": "integer"}}
INFERENCE_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": {"type": "array", "items": {"type": "object"}}},
    "/v1/completions": {"prompt": {}},
    "/v1/responses": {"input": {}},
    "/v1/messages": {"messages": {"type": "array", "items": {"type": "object"}}, "max_tokens": {"type": "integer"}},
    "/v1/messages/count_tokens": {"messages": {"type": "array", "items": {"type": "object"}}},
    "/v1/embeddings": {"input": {}},
    "/tokenize": {},
    "/v1/tokenize": {},
    "/detokenize": {"tokens": TOKEN_IDS},
    "/v1/detokenize": {"tokens": TOKEN_IDS},
}
"""What each must hold besides `model`; the rest is OpenAI's, with vLLM's additions."""

OVERRIDES = {"TargetSet": TargetConfig, "TargetCreate": TargetConfig, "BakeSet": BakeConfig, "BakeCreate": BakeConfig}
"""Body -> what its `overrides` may hold."""


class Config(OpenAPIConfig):
    """Litestar's configuration, for a completed document."""

    def to_openapi_schema(self) -> OpenAPI:
        plain = super().to_openapi_schema()
        return _Document(**{field.name: getattr(plain, field.name) for field in fields(plain)})


def config() -> OpenAPIConfig:
    return Config(
        title="Bread Gateway",
        version=gateway.__version__,
        description="Prompts baked into LoRA adapters, and every version served behind OpenAI's API.",
        # It holds nothing of anybody's, and a browser has no key to show.
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, opt={"public": True}),
        render_plugins=[ScalarRenderPlugin(), SwaggerRenderPlugin(), JsonRenderPlugin()],
        use_handler_docstrings=True,
        security=[{"key": []}, {"x_api_key": []}],
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer"),
                "x_api_key": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
            }
        ),
    )


@dataclass
class _Document(OpenAPI):
    def to_schema(self) -> dict[str, Any]:
        return complete(super().to_schema())


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what it lacks, in place."""
    schemas = document["components"]["schemas"]
    schemas |= ERRORS
    _, settings = msgspec.json.schema_components(set(OVERRIDES.values()), ref_template=REF)
    schemas |= settings
    # The prompts' first names, which all clients still send.
    schemas["TargetConfig"]["properties"] |= {old: {"type": ["string", "null"]} for old in ("u", "v")}
    for body, kind in OVERRIDES.items():
        what = {"anyOf": [{"$ref": REF.format(name=kind.__name__)}, {"type": "null"}]}
        schemas[body]["properties"]["overrides"] = what
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)
    _loosen_unions(document)
    return document


def _loosen_unions(node: Any) -> None:
    """`oneOf`, as Litestar writes unions, would forbid a value that fits two of them, such as an empty list."""
    if isinstance(node, dict):
        if "oneOf" in node:
            node["anyOf"] = node.pop("oneOf")
        for inner in node.values():
            _loosen_unions(inner)
    elif isinstance(node, list):
        for inner in node:
            _loosen_unions(inner)


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    tags = set(operation.get("tags", ()))
    family = next((name for name in ("openai", "anthropic") if name in tags), None)
    responses = operation["responses"]
    if (body := INFERENCE_BODIES.get(path)) is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _inference_body(body)}}}
        events: dict[str, Any] = {"text/event-stream": {}} if path in STREAMED else {}
        responses["200"]["content"] = {JSON: {"schema": {"type": "object"}}, **events}
    if "201" in responses:
        responses["200"] = {**responses["201"], "description": "It stood so already"}
    if path in NEVER_DONE:
        responses.clear()
    if path.startswith(WEIGHTS):
        responses.update(_of_a_file(method))
    if tags & PUBLIC_TAGS:
        operation["security"] = []
    else:
        operation["parameters"] = [*operation.get("parameters", ()), *ACTING]
    error = {"openai": "OpenAIError", "anthropic": "AnthropicError", None: "Error"}[family]
    content = {JSON: {"schema": {"$ref": REF.format(name=error)}}}
    for status in _refusals(path, method, family):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}


def _refusals(path: str, method: str, family: str | None) -> list[int]:
    """Statuses that an operation may refuse with."""
    found = [*STATUSES]
    if method not in ("get", "head"):
        found += [413] if family else [409, 413]
    if path in INFERENCE_BODIES:
        found += INFERENCE_STATUSES
    return sorted(found)


def _of_a_file(method: str) -> dict[str, Any]:
    """Answers of RFC 9110, section 14; a HEAD has no ranges."""
    content = {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}
    whole = {"200": {"description": "The archive", "content": content}}
    if method == "head":
        return whole
    part = {"description": "The part that Range asks for", "content": content}
    return {**whole, "206": part, "416": {"description": "The range begins beyond the end"}}


def _inference_body(needed: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model", *needed],
        "properties": {"model": {"type": "string"}, "stream": {"type": "boolean"}, **needed},
        "additionalProperties": True,
    }
