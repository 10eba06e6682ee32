"""Every error has a row in the table, and the three families each read it in their own shape."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from litestar import Request
from litestar.exceptions import InternalServerException

from baker import errors as baker_errors
from baker.errors import BakeryError, NotLentError
from gateway import errors as gateway_errors
from gateway.errors import (
    ClientLeftError,
    EngineRefusedError,
    FieldRefusedError,
    InferenceError,
    OverloadedError,
    RateLimitedError,
    UnknownModelError,
    UnusableModelError,
)
from gateway.http.errors import (
    CLIENT_LEFT,
    anthropic_error,
    bread_error,
    error_event,
    error_reply,
    openai_error,
    reply_to,
)

pytestmark = pytest.mark.anyio

EXPECTED = {
    "ConfigError": (422, "VALIDATION_ERROR", {}),
    "InvalidInputError": (400, "INVALID_INPUT", {}),
    "NotFoundError": (404, "RESOURCE_NOT_FOUND", {}),
    "ConflictError": (409, "RESOURCE_CONFLICT", {"x-should-retry": "false"}),
    "TooLargeError": (413, "BODY_TOO_LARGE", {}),
    "AdapterError": (422, "ADAPTER_INVALID", {}),
    "StageError": (500, "STAGE_FAILED", {}),
    "StimError": (500, "STIM_FAILED", {}),
    "RolloutError": (500, "ROLLOUT_FAILED", {}),
    "CollateError": (500, "COLLATE_FAILED", {}),
    "TrainingError": (500, "TRAINING_FAILED", {}),
    "TrainerLostError": (500, "TRAINER_LOST", {}),
    "NeedsRoomError": (500, "NEEDS_ROOM", {}),
    "MergeConflictError": (500, "MERGE_CONFLICT", {}),
    "DiskError": (500, "DISK_ERROR", {}),
    "EngineError": (503, "UNAVAILABLE", {"Retry-After": "5"}),
    "UnauthorizedError": (401, "UNAUTHORIZED", {"WWW-Authenticate": "Bearer"}),
    "ForbiddenError": (403, "FORBIDDEN", {}),
    "RequestTimeoutError": (504, "REQUEST_TIMEOUT", {"x-should-retry": "false"}),
    "RateLimitedError": (429, "RATE_LIMITED", {"Retry-After": "7"}),
    "OverloadedError": (503, "OVERLOADED", {"Retry-After": "7"}),
    "EngineRefusedError": (418, "INVALID_INPUT", {}),
    "InferenceError": (501, "INTERNAL_ERROR", {}),
    "FieldRefusedError": (400, "INVALID_INPUT", {}),
    "UnknownModelError": (404, "RESOURCE_NOT_FOUND", {}),
    "UnusableModelError": (422, "ADAPTER_INVALID", {}),
    "CanaryError": (503, "UNAVAILABLE", {"Retry-After": "5"}),
}
"""Error -> status, code in the Bread API's shape, headers."""
NEVER_ANSWERED = {NotLentError, gateway_errors.LimitError}
"""The trainer catches the first; the second is raised only as one of its leaves."""


def leaves(kind: type[BakeryError] = BakeryError) -> Iterator[type[BakeryError]]:
    for leaf in kind.__subclasses__():
        if leaf.__module__ in (baker_errors.__name__, gateway_errors.__name__):
            yield leaf
            yield from leaves(leaf)


def example(kind: type[BakeryError]) -> BakeryError:
    known: dict[type[BakeryError], BakeryError] = {
        EngineRefusedError: EngineRefusedError(418, "n", "why"),
        InferenceError: InferenceError(501, "n", "why"),
        FieldRefusedError: FieldRefusedError("n", "why"),
        RateLimitedError: RateLimitedError("why", {"Retry-After": "7"}),
        OverloadedError: OverloadedError("why", {"Retry-After": "7"}),
    }
    return known.get(kind) or kind("why")


def request(receive: Any = None, path: str = "/v1/repo") -> Request[Any, Any, Any]:
    scope: Any = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "state": {}}
    scope |= {"scheme": "http", "server": ("gateway.local", 80), "root_path": ""}
    scope["route_handler"] = SimpleNamespace(resolve_request_max_body_size=lambda: None)
    return Request(scope, *([] if receive is None else [receive]))


@pytest.mark.parametrize("kind", sorted(set(leaves()) - NEVER_ANSWERED, key=lambda kind: kind.__name__))
def test_every_error_has_its_status_and_headers_in_all_families(kind: type[BakeryError]) -> None:
    status, code, headers = EXPECTED[kind.__name__]
    bread = bread_error(request(), example(kind))
    assert (bread.status_code, bread.headers) == (status, headers)
    assert msgspec.json.decode(bread.content) == {"message": "why", "code": code, "error": "why"}
    openai, anthropic = openai_error(request(), example(kind)), anthropic_error(request(), example(kind))
    for answer in (openai, anthropic):
        assert (answer.status_code, answer.headers) == (status, headers)
        assert msgspec.json.decode(answer.content)["error"]["message"] == "why"
    for reply in (error_reply("openai", example(kind)), reply_to(request(), "openai", example(kind))):
        assert (reply.status, reply.body, reply.headers) == (status, openai.content, headers)
    event = error_event("anthropic", "anthropic", example(kind))
    assert event == f"event: error\ndata: {anthropic.content.decode()}\n\n"


def test_the_expectations_name_no_error_that_is_gone() -> None:
    assert {kind.__name__ for kind in set(leaves()) - NEVER_ANSWERED} == set(EXPECTED)


@pytest.mark.parametrize(
    ("error", "param", "code"),
    [
        (FieldRefusedError("stop", "why"), "stop", 400),
        (FieldRefusedError(None, "why"), None, 400),
        (EngineRefusedError(404, "n", "why"), "n", 404),
        (InferenceError(501, "n", "why"), "n", 501),
        (UnknownModelError("why"), "model", "model_not_found"),
        (UnusableModelError("why"), "model", 422),
    ],
)
def test_openai_clients_read_which_field_is_wrong(error: BakeryError, param: str | None, code: int | str) -> None:
    body = msgspec.json.decode(error_reply("openai", error).body)["error"]
    assert (body["param"], body["code"]) == (param, code)


def test_a_config_error_lists_its_mistakes() -> None:
    detail = [{"loc": ["body", "rank"], "msg": "why", "type": "value_error"}]
    answer = bread_error(request(), baker_errors.ConfigError("why", detail=detail))
    assert msgspec.json.decode(answer.content)["detail"] == detail


def test_an_unforeseen_error_is_logged_and_keeps_its_text_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "gateway.http.errors")
    answer = bread_error(request(), RuntimeError("a secret"))
    assert answer.status_code == 500 and b"a secret" not in answer.content
    assert "a secret" in caplog.text


async def test_a_client_that_leaves_while_sending_its_body_is_not_our_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(InternalServerException) as raised:
        await request(receive).body()
    for error in (raised.value, ClientLeftError()):
        assert reply_to(request(), "openai", error).status == CLIENT_LEFT
    assert reply_to(request(), "openai", InternalServerException()).status == 500
    assert len(caplog.records) == 1
