"""The one table from errors to HTTP: status, headers, and the body in the shape of the route's family."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException

from baker.errors import (
    AdapterError,
    BakeryError,
    ConfigError,
    ConflictError,
    EngineError,
    InvalidInputError,
    NotFoundError,
    StageError,
)
from gateway.auth import UnauthorizedError
from gateway.streaming import ClientLeftError

log = logging.getLogger(__name__)

Handler = Callable[[Request[Any, Any, Any], Exception], Response[bytes]]

STATUS: dict[type[BakeryError], int] = {
    ConfigError: 422,
    InvalidInputError: 400,
    UnauthorizedError: 401,
    NotFoundError: 404,
    ConflictError: 409,
    AdapterError: 422,
    StageError: 500,
    EngineError: 503,
}

HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    # Without it every client sends a request twice more that will be refused twice more.
    409: {"x-should-retry": "false"},
    503: {"Retry-After": "5"},
}

CLIENT_LEFT = 499
"""As nginx calls it; nobody reads it but the metrics."""

CODES = {
    400: "INVALID_INPUT",
    401: "UNAUTHORIZED",
    404: "RESOURCE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "BODY_TOO_LARGE",
    422: "VALIDATION_ERROR",
}
"""For errors that are the HTTP layer's own."""

OPENAI_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    413: "RequestTooLargeError",
    503: "ServiceUnavailableError",
}


def bread_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error as the Bread API's clients read it."""
    status, known = _judge(request, error)
    body: dict[str, Any] = {"message": known.message, "code": known.code, "error": known.message}
    if known.detail is not None:
        body["detail"] = known.detail
    return _response(status, body)


def openai_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error as OpenAI's clients read it."""
    status, known = _judge(request, error)
    return _response(status, openai_error_body(status, known.message))


def openai_error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    kind = OPENAI_TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


class _Known(msgspec.Struct):
    message: str
    code: str
    detail: list[dict[str, Any]] | None = None


def _judge(request: Request[Any, Any, Any], error: Exception) -> tuple[int, _Known]:
    match error:
        case BakeryError():
            status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
            return status, _Known(error.message, error.code, error.detail)
        case ValidationException():
            return _judge_validation(error)
        case ClientLeftError():
            return CLIENT_LEFT, _Known("The client left before the answer", "CLIENT_LEFT")
        case HTTPException(status_code=status) if status < 500:
            cause = error.__cause__
            reason = (
                f"The body is not valid JSON: {cause.__cause__ or cause}"
                if isinstance(cause, SerializationException)
                else _reason(request, status, error)
            )
            return status, _Known(reason, CODES.get(status, "INVALID_INPUT"))
        case SerializationException() | UnicodeDecodeError() | RecursionError():
            # The decoder's, for bytes that are not UTF-8 and for nesting without end.
            return 400, _Known(f"The body is not valid JSON: {error}", "INVALID_INPUT")
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return 500, _Known("An error of the service itself; its log has the details", "INTERNAL_ERROR")


def _reason(request: Request[Any, Any, Any], status: int, error: HTTPException) -> str:
    match status:
        case 404:
            return f"There is no route {request.method} {request.url.path}"
        case 405:
            return f"{request.url.path} does not take {request.method}"
        case 413:
            return "The body is larger than this service accepts (--max-body-mib)"
    return error.detail


def _judge_validation(error: ValidationException) -> tuple[int, _Known]:
    """A body or query of the wrong form: every mistake that Litestar found, with its place."""
    mistakes = error.extra if isinstance(error.extra, list) else []
    detail = [
        {
            "loc": [str(mistake.get("source", "body")), *str(mistake.get("key", "")).split(".")],
            "msg": str(mistake.get("message")),
            "type": "value_error",
        }
        for mistake in mistakes
        if isinstance(mistake, dict)
    ]
    text = "; ".join(f"{'.'.join(filter(None, entry['loc']))}: {entry['msg']}" for entry in detail)
    return 422, _Known(text or error.detail, "VALIDATION_ERROR", detail)


def _response(status: int, body: dict[str, Any]) -> Response[bytes]:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        headers=HEADERS.get(status, {}),
        media_type="application/json",
    )
