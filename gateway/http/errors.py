"""The one table from errors to HTTP: status, headers, and the body that clients of the route's family read."""

import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)

from baker.config.mistakes import with_value
from baker.errors import (
    AdapterError,
    BakeryError,
    ConfigError,
    ConflictError,
    EngineError,
    InvalidInputError,
    NotFoundError,
    StageError,
    TooLargeError,
)
from gateway.errors import (
    ClientLeftError,
    EngineRefusedError,
    FieldRefusedError,
    ForbiddenError,
    InferenceError,
    LimitError,
    OverloadedError,
    RateLimitedError,
    RequestTimeoutError,
    UnauthorizedError,
    UnknownModelError,
    UnusableModelError,
)
from gateway.http import unserved
from gateway.http.heads import with_head
from gateway.protocol.errors import Framing, Shape, error_body, error_events
from gateway.protocol.replies import Reply

log = logging.getLogger(__name__)

Handler = Callable[[Request[Any, Any, Any], Exception], Response[bytes]]

STATUS: dict[type[BakeryError], int] = {
    ConfigError: 422,
    TooLargeError: 413,
    InvalidInputError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    AdapterError: 422,
    StageError: 500,
    EngineError: 503,
    OverloadedError: 503,
    RateLimitedError: 429,
    RequestTimeoutError: 504,
}
"""Error -> status, for subclasses too. Errors that carry vLLM's own status need no row (`status_of`)."""

HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    # Without it, clients would retry twice a request that is refused every time.
    409: {"x-should-retry": "false"},
    503: {"Retry-After": "5"},
    # A retry would cost as much and time out again.
    504: {"x-should-retry": "false"},
}
"""Status -> response headers, for all errors of that status."""

CLIENT_LEFT = 499
"""nginx's status for a connection that the client closed early; only the metrics and the log show it."""

CODES = {
    400: "INVALID_INPUT",
    401: "UNAUTHORIZED",
    404: "RESOURCE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "BODY_TOO_LARGE",
    422: "VALIDATION_ERROR",
}
"""Status -> machine code, for errors that Litestar raises."""

NO_BODY = str(KeyError("data"))
"""Litestar's message for a missing body; only this text distinguishes it from a body of the wrong type."""


def bread_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error in the Bread API's shape. Paths and methods that no route serves end here too, in the shape of the
    clients that ask for them.
    """
    if isinstance(error, MethodNotAllowedException | NotFoundException):
        return _response(_no_route(request, error))
    problem = _problem(request, error)
    body = _bread_body(problem.message, problem.code)
    if problem.detail is not None:
        body["detail"] = problem.detail
    return _response(_reply(problem.status, body, error))


def openai_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error in OpenAI's shape."""
    return _response(reply_to(request, "openai", error))


def anthropic_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error in Anthropic's shape."""
    return _response(reply_to(request, "anthropic", error))


def reply_to(request: Request[Any, Any, Any], shape: Shape, error: Exception) -> Reply:
    """Any error of a request as a whole answer in this shape."""
    if isinstance(error, BakeryError):
        return error_reply(shape, error)
    problem = _problem(request, error)
    return _reply(problem.status, _shaped_body(shape, problem.status, problem.message, error), error)


def error_reply(shape: Shape, error: BakeryError) -> Reply:
    """One of our own errors as a whole answer in this shape."""
    status = status_of(error)
    return _reply(status, _shaped_body(shape, status, error.message, error), error)


def error_event(shape: Shape, framing: Framing, error: BakeryError) -> str:
    """The error as the last event of a stream that has begun."""
    return error_events(framing, _shaped_body(shape, status_of(error), error.message, error))


def status_of(error: BakeryError) -> int:
    """HTTP status of the error: vLLM's own if it carries one, else the table's."""
    if isinstance(error, EngineRefusedError | InferenceError):
        return error.status
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


def _no_route(request: Request[Any, Any, Any], error: MethodNotAllowedException | NotFoundException) -> Reply:
    methods = (error.headers or {}).get("allow")
    allow = None if methods is None else with_head(methods)
    status, shape, message = unserved.explain(
        request.method,
        request.scope["path"],
        allowed=None if allow is None else allow.split(", "),
        is_anthropic="anthropic-version" in request.headers,
    )
    body = _bread_body(message, CODES[status]) if shape is None else error_body(shape, status, message)
    return Reply(status, msgspec.json.encode(body), {"Allow": allow} if allow is not None and status == 405 else {})


def _bread_body(message: str, code: str) -> dict[str, Any]:
    return {"message": message, "code": code, "error": message}


def _shaped_body(shape: Shape, status: int, message: str, error: Exception) -> dict[str, Any]:
    param = code = None
    match error:
        case UnknownModelError():
            param, code = "model", "model_not_found"
        case UnusableModelError():
            param = "model"
        case FieldRefusedError() | InferenceError():
            param = error.param
    return error_body(shape, status, message, param=param, code=code)


def _reply(status: int, body: dict[str, Any], error: Exception) -> Reply:
    own = error.headers if isinstance(error, LimitError) else {}
    return Reply(status, msgspec.json.encode(body), {**HEADERS.get(status, {}), **own})


def _response(reply: Reply) -> Response[bytes]:
    return Response(reply.body, status_code=reply.status, headers=reply.headers, media_type="application/json")


class _Problem(NamedTuple):
    """An error in HTTP's terms, before it takes a family's shape."""

    status: int
    message: str
    code: str
    detail: list[dict[str, Any]] | None = None


def _problem(request: Request[Any, Any, Any], error: Exception) -> _Problem:
    match error:
        case BakeryError():
            return _Problem(status_of(error), error.message, error.code, error.detail)
        case ValidationException():
            return _invalid(request, error)
        case ClientLeftError():
            return _Problem(CLIENT_LEFT, "The client closed the connection before the answer", "CLIENT_LEFT")
        case HTTPException() if _is_client_left(error):
            return _problem(request, ClientLeftError())
        case HTTPException(status_code=status) if status < 500:
            return _Problem(status, _reason(error), CODES.get(status, "INVALID_INPUT"))
        case SerializationException() | UnicodeDecodeError() | RecursionError():
            # Raised by the JSON decoder: bytes that are not UTF-8, or endless nesting.
            return _Problem(400, f"The body is not valid JSON: {error}", "INVALID_INPUT")
    log.error("%s %s", request.method, request.scope["path"], exc_info=error)
    return _Problem(500, "Internal error of the service; its log has the details", "INTERNAL_ERROR")


def _is_client_left(error: HTTPException) -> bool:
    """Whether Litestar raised this because the client disconnected while its body was read.

    Litestar has no class for this, so only the text shows it.
    """
    return isinstance(error, InternalServerException) and error.detail == "client disconnected prematurely"


def _reason(error: HTTPException) -> str:
    cause = error.__cause__
    if isinstance(cause, SerializationException):
        return f"The body is not valid JSON: {cause.__cause__ or cause}"
    if error.status_code == 413:
        return "The body is larger than this service accepts (--max-body-mib)"
    return error.detail


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> _Problem:
    """A body or query of the wrong form: all mistakes that Litestar found, each with its location."""
    mistakes = error.extra if isinstance(error.extra, list) else []
    detail = [_mistake(request, mistake) for mistake in mistakes if isinstance(mistake, dict)]
    text = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in detail)
    return _Problem(422, text or error.detail, "VALIDATION_ERROR", detail)


def _mistake(request: Request[Any, Any, Any], mistake: dict[str, Any]) -> dict[str, Any]:
    """Litestar's description of a mistake as an entry of our own details: `loc` holds names, and numbers in lists."""
    source, key, text = mistake.get("source", "body"), str(mistake.get("key", "")), str(mistake.get("message"))
    place = [part for part in re.split(r"[.\[\]]+", key) if part]
    # Handlers call the body `data`; a client has no field of that name.
    if source == "body" and place[:1] == ["data"]:
        place = place[1:]
        text = "a JSON body is needed" if text == NO_BODY else text
    elif source == "query" and (value := request.query_params.get(key)) is not None:
        text = with_value(text, value)
    loc = [str(getattr(source, "value", source)), *(int(part) if part.isdigit() else part for part in place)]
    return {"loc": loc, "msg": text, "type": "value_error"}
