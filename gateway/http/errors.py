"""The one table from errors to HTTP: status, headers, and the body in the shape of the route's family."""

import logging
import re
from collections.abc import Callable
from typing import Any

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

from baker.config.overrides import with_value
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
from gateway.protocol.errors import Framing, Shape, error_body, error_events
from gateway.protocol.replies import Reply

log = logging.getLogger(__name__)

Handler = Callable[[Request[Any, Any, Any], Exception], Response[bytes]]

STATUS: dict[type[BakeryError], int] = {
    ConfigError: 422,
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

HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    # Without it every client sends a request twice more that will be refused twice more.
    409: {"x-should-retry": "false"},
    503: {"Retry-After": "5"},
    # The next try would cost as much, and end like this one.
    504: {"x-should-retry": "false"},
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

OPENAI_PATHS = (
    "/v1/chat/",
    "/v1/completions",
    "/v1/models",
    "/v1/load_lora",
    "/v1/unload_lora",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/audio/",
    "/v1/images/",
    "/v1/moderations",
    "/v1/pooling",
    "/v1/rerank",
    "/v1/score",
    "/v1/tokenize",
    "/v1/detokenize",
    "/tokenize",
    "/detokenize",
)
ANTHROPIC_PATHS = ("/v1/messages",)


def bread_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error as the Bread API's clients read it.

    A path or a method of OpenAI's or Anthropic's that is not served ends here too, since no route was found.
    """
    if isinstance(error, MethodNotAllowedException | NotFoundException):
        if request.url.path.startswith(OPENAI_PATHS):
            return openai_error(request, error)
        if request.url.path.startswith(ANTHROPIC_PATHS):
            return anthropic_error(request, error)
    status, known = _judge(request, error)
    body: dict[str, Any] = {"message": known.message, "code": known.code, "error": known.message}
    if known.detail is not None:
        body["detail"] = known.detail
    return _response(status, body, error)


def openai_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error as OpenAI's clients read it."""
    return shaped("openai", request, error)


def anthropic_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error as Anthropic's clients read it."""
    return shaped("anthropic", request, error)


def shaped(shape: Shape, request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The error as clients of this family read it."""
    status, known = _judge(request, error)
    return _response(status, _shaped_body(shape, status, known.message, error), error)


def error_reply(shape: Shape, error: BakeryError) -> Reply:
    """The error as a whole answer for clients of this family."""
    status = status_of(error)
    return Reply(
        status, msgspec.json.encode(_shaped_body(shape, status, error.message, error)), _headers(status, error)
    )


def error_event(shape: Shape, framing: Framing, error: BakeryError) -> str:
    """The error as the last event of a stream that has begun."""
    return error_events(framing, _shaped_body(shape, status_of(error), error.message, error))


def status_of(error: BakeryError) -> int:
    """HTTP status of the error: vLLM's own if it names one, else from the table."""
    if isinstance(error, EngineRefusedError | InferenceError):
        return error.status
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


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


def as_reply(response: Response[bytes]) -> Reply:
    """The error as the engine's handlers would have answered it."""
    headers = {name: value for name, value in response.headers.items() if name != "content-type"}
    return Reply(response.status_code or 500, response.content, headers)


class _Known(msgspec.Struct):
    message: str
    code: str
    detail: list[dict[str, Any]] | None = None


def _judge(request: Request[Any, Any, Any], error: Exception) -> tuple[int, _Known]:
    match error:
        case BakeryError():
            return status_of(error), _Known(error.message, error.code, error.detail)
        case ValidationException():
            return _judge_validation(request, error)
        case ClientLeftError() | InternalServerException(detail="client disconnected prematurely"):
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


def _judge_validation(request: Request[Any, Any, Any], error: ValidationException) -> tuple[int, _Known]:
    """A body or query of the wrong form: every mistake that Litestar found, with its place."""
    mistakes = error.extra if isinstance(error.extra, list) else []
    detail = [_mistake(request, mistake) for mistake in mistakes if isinstance(mistake, dict)]
    text = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in detail)
    return 422, _Known(text or error.detail, "VALIDATION_ERROR", detail)


def _mistake(request: Request[Any, Any, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Litestar's note of a mistake with its place as our own errors give it: names, and numbers within lists."""
    source, key, text = found.get("source", "body"), str(found.get("key", "")), str(found.get("message"))
    place = [part for part in re.split(r"[.\[\]]+", key) if part]
    # Handlers call the body `data`; a client has no field of that name.
    if source == "body" and place[:1] == ["data"]:
        place = place[1:]
        text = "a JSON body is needed" if text == "'data'" else text
    elif source == "query" and (value := request.query_params.get(key)) is not None:
        text = with_value(text, value)
    loc = [str(getattr(source, "value", source)), *(int(part) if part.isdigit() else part for part in place)]
    return {"loc": loc, "msg": text, "type": "value_error"}


def _response(status: int, body: dict[str, Any], error: Exception) -> Response[bytes]:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        headers=_headers(status, error),
        media_type="application/json",
    )


def _headers(status: int, error: Exception) -> dict[str, str]:
    return {**HEADERS.get(status, {}), **(error.headers if isinstance(error, LimitError) else {})}
