"""Error bodies in OpenAI's or Anthropic's shape."""

from typing import Any, Literal

import msgspec

Shape = Literal["openai", "anthropic"]
Framing = Literal["openai", "anthropic", "responses"]

OPENAI_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    413: "RequestTooLargeError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(
    shape: Shape, status: int, message: str, *, param: str | None = None, code: str | int | None = None
) -> dict[str, Any]:
    """The body of an error.

    Args:
        param: the request's field that the error is about.
        code: machine code. In OpenAI's shape the status replaces a missing one; Anthropic's shape has no code.
    """
    if shape == "anthropic":
        kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    kind = OPENAI_TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return {"error": {"message": message, "type": kind, "param": param, "code": status if code is None else code}}


def error_events(framing: Framing, body: dict[str, Any]) -> str:
    """Events that report an error in the middle of a stream and end the stream.

    Args:
        body: from `error_body`.
    """
    match framing:
        case "openai":
            return f"data: {_json(body)}\n\ndata: [DONE]\n\n"
        case "anthropic":
            return f"event: error\ndata: {_json(body)}\n\n"
        case "responses":
            error = body["error"]
            event = {"type": "error", "code": str(error["code"]), "message": error["message"], "param": error["param"]}
            return f"event: error\ndata: {_json(event)}\n\n"


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
