"""OpenAI request bodies through vLLM's own serving code, without its web framework.

The route parses the body (`parse`), finds out which model is meant (`model_of`) and has it loaded; `chat` and
`completions` do the rest. What they return says only status, headers and bytes, so any web framework can send it.
Everything about a request that is wrong comes back as a Reply in OpenAI's form; nothing is raised but cancellation.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec

from baker.errors import BakeryError, EngineError, InvalidInputError, NotFoundError
from gateway.engine.adapters import Lease
from gateway.engine.llm import Engine

log = logging.getLogger(__name__)

RETRY_SECONDS = 5
"""What Retry-After says while the engine starts or restarts."""
KEPT_HEADERS = ("x-request-id", "x-session-id", "traceparent", "tracestate")
"""The request headers that vLLM may see. It also knows one that jumps the queue and one that picks a replica."""
MAX_REQUEST_ID = 128
ERROR_EVENT = b'data: {"error":'


class Reply(msgspec.Struct, frozen=True):
    """A finished answer: JSON."""

    status: int
    body: bytes
    headers: dict[str, str] = {}


class StreamReply(AsyncGenerator[bytes, None]):
    """An answer under way: server-sent events, each a full `data: ...` line and an empty one, `[DONE]` at the end.

    Iterate it once. The work in the engine ends, and the adapter is given back, when the iteration ends, is cancelled,
    or on `aclose`, which the sender should await in any case.
    """

    status = 200

    def __init__(self, first: str, rest: AsyncGenerator[str, None], lease: Lease) -> None:
        self._first: str | None = first
        self._rest = rest
        self._lease = lease

    async def asend(self, value: None) -> bytes:
        if self._first is not None:
            event, self._first = self._first, None
            return event.encode()
        try:
            return (await anext(self._rest)).encode()
        except BaseException:
            await self.aclose()
            raise

    async def athrow(self, *error: Any) -> bytes:
        await self.aclose()
        return await super().athrow(*error)

    async def aclose(self) -> None:
        """End the request in the engine, if it still runs."""
        self._first = None
        try:
            await self._rest.aclose()
        finally:
            self._lease.release()

    def __del__(self) -> None:
        self._lease.release()  # the event loop closes a dropped generator by itself


def parse(body: bytes) -> dict[str, Any]:
    """The fields of a request, those of a nested `extra_body` among them.

    OpenAI's library flattens `extra_body` before it sends it; scripts that post JSON by themselves don't.
    Raises: InvalidInputError.
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInputError(f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInputError("the body must be a JSON object")
    extra = fields.pop("extra_body", None)
    if extra is not None and not isinstance(extra, dict):
        raise InvalidInputError("extra_body must be an object")
    return {**(extra or {}), **fields}


def model_of(fields: dict[str, Any]) -> str:
    """The model that the client named. Raises: InvalidInputError if it named none."""
    name = fields.get("model")
    if not isinstance(name, str) or not name:
        raise InvalidInputError("model must be the name of a model, as GET /v1/models lists them")
    return name


def error_reply(
    status: int, message: str, *, kind: str, param: str | None = None, code: str | int | None = None
) -> Reply:
    """An error in OpenAI's form. A 503 asks the client to come back."""
    error = {"message": message, "type": kind, "param": param, "code": status if code is None else code}
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    return Reply(status, msgspec.json.encode({"error": error}), headers)


class Handlers:
    """The inference routes of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def chat(self, fields: dict[str, Any], headers: Mapping[str, str], *, model: str) -> Reply | StreamReply:
        """Answer a chat completion.

        Args:
            fields: from `parse`.
            model: the base model's name or that of a loaded adapter; replaces the one in `fields`.
        """
        return await self._serve("chat", fields, headers, model)

    async def completions(
        self, fields: dict[str, Any], headers: Mapping[str, str], *, model: str
    ) -> Reply | StreamReply:
        """Answer a text completion; arguments as of `chat`."""
        return await self._serve("completion", fields, headers, model)

    async def _serve(
        self, kind: str, fields: dict[str, Any], headers: Mapping[str, str], model: str
    ) -> Reply | StreamReply:
        try:
            lease = self._engine.lease(model)
        except NotFoundError as error:
            return error_reply(404, error.message, kind="NotFoundError", param="model", code="model_not_found")
        except BakeryError as error:
            return error_reply(503, error.message, kind="ServiceUnavailableError")
        reply: Reply | StreamReply | None = None
        try:
            reply = await self._answer(kind, {**fields, "model": model}, headers, lease)
        except Exception as error:
            reply = self._failed(error)
        finally:
            if not isinstance(reply, StreamReply):
                lease.release()
        return reply

    async def _answer(
        self, kind: str, fields: dict[str, Any], headers: Mapping[str, str], lease: Lease
    ) -> Reply | StreamReply:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse

        serving = self._engine.serving
        self._check_n(fields)
        shim = SimpleNamespace(headers=_kept(headers), state=SimpleNamespace())
        if kind == "chat":
            result = await serving.openai_serving_chat.create_chat_completion(
                ChatCompletionRequest.model_validate(fields), shim
            )
        else:
            result = await serving.openai_serving_completion.create_completion(
                CompletionRequest.model_validate(fields), shim
            )
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # vLLM takes a cancellation for an answer: "Client disconnected"
        if isinstance(result, ErrorResponse):
            return self._error(result.error)
        if isinstance(result, AsyncGenerator):
            return await self._stream(result, lease)
        return Reply(200, result.model_dump_json().encode())

    async def _stream(self, events: AsyncGenerator[str, None], lease: Lease) -> Reply | StreamReply:
        """Wait for the first event: if it is an error, the client still gets an honest status."""
        try:
            first = await anext(events)
        except BaseException:
            await events.aclose()
            raise
        if not first.encode().startswith(ERROR_EVENT):
            return StreamReply(first, events, lease)
        await events.aclose()
        error = msgspec.json.decode(first.removeprefix("data: "))["error"]
        return self._error(SimpleNamespace(**error))

    def _check_n(self, fields: dict[str, Any]) -> None:
        n, most = fields.get("n"), self._engine.settings.max_n
        if isinstance(n, int) and n > most:
            raise _FieldRefusedError("n", f"n is {n}, at most {most} answers are given to one request")

    def _failed(self, error: Exception) -> Reply:
        import pydantic
        from vllm.entrypoints.serve.exception_handling.error_response import create_error_response

        from gateway.engine.sampling import complaint

        if isinstance(error, _FieldRefusedError):
            return error_reply(400, error.message, kind="BadRequestError", param=error.param)
        if isinstance(error, EngineError):
            return error_reply(503, error.message, kind="ServiceUnavailableError")
        if isinstance(error, pydantic.ValidationError):
            field, message = complaint(error)
            return error_reply(400, f"{field}: {message}" if field else message, kind="BadRequestError", param=field)
        return self._error(create_error_response(error).error, error)

    def _error(self, error: Any, cause: Exception | None = None) -> Reply:
        """vLLM's ErrorInfo as a reply."""
        if self._engine.is_dead:
            return error_reply(503, "the engine has died and is restarted", kind="ServiceUnavailableError")
        if error.code >= 500:
            log.error("inference failed: %s", error.message, exc_info=cause)
        return error_reply(error.code, error.message, kind=error.type, param=error.param)


class _FieldRefusedError(InvalidInputError):
    """A field's value that vLLM would take and we don't."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class _Headers(dict[str, str]):
    """Looked up in any case, as vLLM expects."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def _kept(headers: Mapping[str, str]) -> _Headers:
    kept = _Headers()
    for name in KEPT_HEADERS:
        value = headers.get(name)
        if value is not None:
            kept[name] = value[:MAX_REQUEST_ID] if name == "x-request-id" else value
    return kept
