import json
from typing import Any

import pytest

from gateway.protocol.errors import error_body, error_events


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "BadRequestError", "invalid_request_error"),
        (401, "AuthenticationError", "authentication_error"),
        (422, "BadRequestError", "invalid_request_error"),
        (429, "RateLimitError", "rate_limit_error"),
        (500, "InternalServerError", "api_error"),
        (503, "ServiceUnavailableError", "overloaded_error"),
    ],
)
def test_each_status_has_its_type_in_both_shapes(status: int, openai: str, anthropic: str) -> None:
    assert error_body("openai", status, "text")["error"]["type"] == openai
    assert error_body("anthropic", status, "text") == {"type": "error", "error": {"type": anthropic, "message": "text"}}


def test_openai_s_code_is_the_machine_code_or_the_status() -> None:
    body = error_body("openai", 404, "no such model", param="model", code="model_not_found")
    assert body["error"] == {
        "message": "no such model",
        "type": "NotFoundError",
        "param": "model",
        "code": "model_not_found",
    }
    assert error_body("openai", 404, "gone")["error"]["code"] == 404


def events(text: str) -> list[tuple[str | None, Any]]:
    """Name and data of each server-sent event."""
    read = []
    for event in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in event.split("\n"))
        read.append((fields.get("event"), fields["data"]))
    return read


def test_an_error_in_a_stream_has_the_stream_s_own_form_and_ends_it() -> None:
    body = error_body("openai", 503, "the engine is gone")
    (name, data), end = events(error_events("openai", body))
    assert (name, json.loads(data), end) == (None, body, (None, "[DONE]"))
    ((name, data),) = events(error_events("responses", body))
    assert (name, json.loads(data)) == (
        "error",
        {"type": "error", "code": "503", "message": "the engine is gone", "param": None},
    )
    body = error_body("anthropic", 503, "the engine is gone")
    ((name, data),) = events(error_events("anthropic", body))
    assert (name, json.loads(data)) == ("error", body)
