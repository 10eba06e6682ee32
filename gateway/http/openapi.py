"""The OpenAPI document. Adds what Litestar can't derive from the routes: errors, keys, settings, OpenAI's bodies.

Served as `/schema/openapi.json`, and as a page to read at `/schema` (`schema_page.py`).
"""

import re
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, OpenAPI, SecurityScheme

import gateway
from gateway.http import pages
from gateway.http.bodies import OVERRIDES
from gateway.http.schema_page import SchemaPage

JSON = "application/json"
REF = "#/components/schemas/{name}"

STATUSES = (400, 401, 403, 404, 422, 503)
"""Error statuses of every operation."""
INFERENCE_STATUSES = (429, 504)
"""Further error statuses of model requests: a key's limits, and --request-timeout-seconds."""
ALWAYS_REFUSED = ("/v1/embeddings", "/v1/responses/{response}", "/v1/responses/{response}/cancel")
"""Routes that never succeed."""
STREAMED = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"),
    *(f"/v1/repo/{{repo}}/{comparison}" for comparison in ("diff", "blame", "bisect")),
)
WEIGHTS = "/v1/files/weights/"
USER = {"type": "string", "description": "With the master key: the user that the request acts for."}
USER_PARAMETERS = [
    {"name": "user_id", "in": "query", "required": False, "schema": USER},
    {"name": "X-User-Id", "in": "header", "required": False, "schema": USER},
]
SUCCESS = HTTPStatus.OK.description
"""Litestar's description of a success, which says less than the status."""

PARAMETERS = {
    "repo": "Name of the repo.",
    "prompt": "Name of the prompt.",
    "probe": "Name of the probe.",
    "target": "Name of the target.",
    "bake": "Name of the bake.",
    "user": "Id of the user.",
    "key": "Id of the key, as the list of users shows it; not the key itself.",
    "response": "Id of the response.",
    "name": "Name of the model, in any spelling that requests accept, or of the branch or tag.",
    "step": "Number of the checkpoint: its optimizer step.",
    "checkpoint": "Number of the checkpoint; absent: the one that the bake's name means.",
    "file": "File name of the archive. Any name will do.",
    "expires": "Time at which the link expires, in Unix seconds.",
    "sig": "Signature of the link.",
    "expires_in": "Seconds for which the link is valid.",
    "sha256": "SHA-256 of the adapter's byte stream, in hex.",
    "rev": "A commit: its id, or where one is only read any revision.",
    "remote": "Name of the remote.",
    "with_data": "Whether to add the prompts, questions and answers that made it.",
    "prompts": "Whether the archive's model card quotes the bake's prompts. Part of the link's signature.",
    "prune": "Whether to remove it for good, so that no undo brings it back.",
    "force": "Whether to remove a tag, or the current branch, too.",
    "ref": "A revision: begin there. Absent: begin at all names of the repo.",
    "all": "Whether to list the checkpoints too that trainings wrote on their way.",
    "after": "Id of a commit: list those after it.",
    "before": "Number of an operation: list those before it.",
    "offset": "Number of rows to skip.",
    "limit": "Largest number of rows to return.",
    "before_id": "In Anthropic's pages: return the rows just before this id.",
    "after_id": "In Anthropic's pages: return the rows just after this id.",
    "include_metadata": "Whether each repo comes with its metadata, not only its name.",
    "Idempotency-Key": "A text of the client's choice: a failed job is not started again for a repeated one.",
}
"""Name of a parameter -> what it is, wherever it occurs."""
PUBLIC_TAGS = {"health", "files"}
"""Tags of routes that need no key, or take a signature instead."""

ERRORS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["message", "code", "error"],
        "properties": {
            "message": {"type": "string", "description": "What was wrong, with the value, and what to do."},
            "code": {"type": "string"},
            "error": {"type": "string", "description": "The message again."},
            "detail": {
                "type": "array",
                "description": "One entry per mistake.",
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
"""Path -> required fields besides `model`. All other fields are OpenAI's, with vLLM's additions."""


class Config(OpenAPIConfig):
    """Litestar's configuration; its document is completed by `complete`."""

    def to_openapi_schema(self) -> OpenAPI:
        plain = super().to_openapi_schema()
        return _Document(**{field.name: getattr(plain, field.name) for field in fields(plain)})


def config() -> OpenAPIConfig:
    return Config(
        title="Bread Gateway",
        version=gateway.__version__,
        description="Prompts baked into LoRA adapters, and every version served behind OpenAI's API.",
        # Public: it holds no user's data, and a browser sends no key.
        openapi_router=Router(
            "/schema",
            route_handlers=[],
            include_in_schema=False,
            opt={"public": True},
            response_headers=pages.HEADERS,
        ),
        render_plugins=[SchemaPage(), JsonRenderPlugin()],
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
    """Add what the document lacks, in place."""
    schemas = document["components"]["schemas"]
    schemas |= ERRORS
    _, settings = msgspec.json.schema_components(set(OVERRIDES.values()), ref_template=REF)
    schemas |= settings
    # The older names of the prompts, which all clients still send.
    schemas["TargetConfig"]["properties"] |= {old: {"type": ["string", "null"]} for old in ("u", "v")}
    for body, kind in OVERRIDES.items():
        what = {"anyOf": [{"$ref": REF.format(name=kind.__name__)}, {"type": "null"}]}
        schemas[body.__name__]["properties"]["overrides"] = what
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)
    _loosen_unions(document)
    return document


def _loosen_unions(node: Any) -> None:
    """Litestar writes unions as `oneOf`, which forbids a value that fits two members, such as an empty list."""
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
    operation["summary"] = _in_words(operation["summary"])
    for parameter in operation.get("parameters", ()):
        if described := PARAMETERS.get(parameter["name"]):
            parameter["description"] = described
    family = next((name for name in ("openai", "anthropic") if name in tags), None)
    responses = operation["responses"]
    if (body := INFERENCE_BODIES.get(path)) is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _inference_body(body)}}}
        responses["200"]["content"] = {JSON: {"schema": {"type": "object"}}}
    if path in STREAMED:
        responses["200"]["content"]["text/event-stream"] = {}
    for status, response in responses.items():
        if response["description"] == SUCCESS:
            response["description"] = HTTPStatus(int(status)).phrase
    if "201" in responses:
        responses["200"] = {**responses["201"], "description": "It already existed as requested"}
    if path in ALWAYS_REFUSED:
        responses.clear()
    if path.startswith(WEIGHTS):
        responses.update(_file_responses(method))
    if tags & PUBLIC_TAGS:
        operation["security"] = []
    else:
        operation["parameters"] = [*operation.get("parameters", ()), *USER_PARAMETERS]
    error = {"openai": "OpenAIError", "anthropic": "AnthropicError", None: "Error"}[family]
    content = {JSON: {"schema": {"$ref": REF.format(name=error)}}}
    for status in _error_statuses(path, method, family):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}


def _in_words(name: str) -> str:
    """`ListRepos` as "List repos"."""
    first, *others = re.findall("[A-Z][a-z0-9]*", name)
    return " ".join([first, *(word.lower() for word in others)])


def _error_statuses(path: str, method: str, family: str | None) -> list[int]:
    """Error statuses of an operation."""
    statuses = [*STATUSES]
    if method not in ("get", "head"):
        statuses += [413] if family else [409, 413]
    if path in INFERENCE_BODIES:
        statuses += INFERENCE_STATUSES
    return sorted(statuses)


def _file_responses(method: str) -> dict[str, Any]:
    """Responses of RFC 9110, section 14; HEAD has no ranges."""
    content = {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}
    whole = {"200": {"description": "The archive", "content": content}}
    if method == "head":
        return whole
    part = {"description": "The part that Range requests", "content": content}
    return {**whole, "206": part, "416": {"description": "The range begins beyond the end"}}


def _inference_body(required: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model", *required],
        "properties": {"model": {"type": "string"}, "stream": {"type": "boolean"}, **required},
        "additionalProperties": True,
    }
