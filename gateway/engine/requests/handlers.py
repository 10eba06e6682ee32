"""OpenAI request bodies through vLLM's own serving code, without its web framework.

The route parses the body (`request_body.py`), finds out which model is meant and has it loaded; `Handlers.serve` does
the rest, for every kind of request in `surface.py`. What it returns says only status, headers and bytes, so any
web framework can send it. Everything about a request that is wrong comes back as a Reply in the shape of its kind;
nothing is raised but cancellation.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from baker.errors import AdapterError, BakeryError, EngineError, NotFoundError
from gateway.engine.adapters.slots import Lease
from gateway.engine.core.engine import Engine
from gateway.engine.core.usage import Usage
from gateway.engine.patches.death import GONE
from gateway.engine.requests import checks, kinds
from gateway.engine.requests.kinds import Kind
from gateway.engine.requests.stream import StreamReply
from gateway.errors import FieldRefusedError
from gateway.protocol.errors import Shape, error_body, error_events
from gateway.protocol.replies import Reply

log = logging.getLogger(__name__)

RETRY_SECONDS = 5
"""What Retry-After says while the engine starts or restarts."""
KEPT_HEADERS = ("x-request-id", "x-session-id", "traceparent", "tracestate")
"""The request headers that vLLM may see. It also knows one that jumps the queue and one that picks a replica."""
MAX_REQUEST_ID = 128
INTERNAL = "the engine could not finish this answer; the service's log has the details"


def error_reply(
    status: int, message: str, *, shape: Shape = "openai", param: str | None = None, code: str | int | None = None
) -> Reply:
    """An error. A 503 asks the client to come back."""
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    return Reply(status, msgspec.json.encode(error_body(shape, status, message, param=param, code=code)), headers)


class Refusal(NamedTuple):
    """Why a request gets no answer."""

    status: int
    message: str
    param: str | None = None

    def reply(self, shape: Shape) -> Reply:
        return error_reply(self.status, self.message, shape=shape, param=self.param)

    def events(self, kind: Kind) -> str:
        return error_events(kind.framing, error_body(kind.shape, self.status, self.message, param=self.param))


def _error_of(event: str) -> Any:
    """What an error event of vLLM's says, as its ErrorInfo does."""
    error = msgspec.json.decode(event[event.index("data: ") + len("data: ") :])["error"]
    return SimpleNamespace(**{"code": 500, "param": None, **error})


class Handlers:
    """The inference routes of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def serve(
        self,
        kind: Kind,
        fields: dict[str, Any],
        headers: Mapping[str, str],
        *,
        model: str,
        usage: Usage | None = None,
    ) -> Reply | StreamReply:
        """Answer a request.

        Args:
            fields: from `parse`.
            model: the base model's name or that of a registered adapter; replaces the one in `fields`.
            usage: learns how many tokens were read and written.
        """
        try:
            await self._engine.awake()
            lease = await self._engine.lease(model)
        except NotFoundError as error:
            return error_reply(404, error.message, shape=kind.shape, param="model", code="model_not_found")
        except AdapterError as error:
            return error_reply(422, error.message, shape=kind.shape, param="model")
        except BakeryError as error:
            return error_reply(503, error.message, shape=kind.shape)
        reply: Reply | StreamReply | None = None
        try:
            reply = await self._answer(kind, {**fields, "model": model}, headers, lease, usage or Usage())
        except Exception as error:
            reply = self._refusal(kind, fields, error).reply(kind.shape)
        finally:
            if not isinstance(reply, StreamReply):
                lease.release()
        return reply

    async def _answer(
        self, kind: Kind, fields: dict[str, Any], headers: Mapping[str, str], lease: Lease, usage: Usage
    ) -> Reply | StreamReply:
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse

        serving = self._engine.serving
        checks.check(kind.name, fields, max_n=self._engine.settings.max_n)
        shim = SimpleNamespace(headers=_kept(headers), state=usage)
        result = await kinds.answer(kind, serving, await kinds.read(kind, fields), shim)
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # vLLM takes a cancellation for an answer: "Client disconnected"
        if isinstance(result, ErrorResponse):
            return self._judge(kind, fields, result.error).reply(kind.shape)
        if isinstance(result, AsyncGenerator):
            return await self._stream(kind, kinds.events(kind, result, usage), fields, lease)
        return Reply(200, kinds.whole(kind, result, usage))

    async def _stream(
        self, kind: Kind, events: AsyncGenerator[str, None], fields: dict[str, Any], lease: Lease
    ) -> Reply | StreamReply:
        """Wait for the first event: if it is an error, the client still gets an honest status.

        A grammar is compiled after the events that every stream opens with, so with one these are held back until the
        model has said something; and always where they come before the engine has seen the request.
        """
        holds_back = kind.opens_early or checks.grammar_field(fields) is not None
        first: list[str] = []
        try:
            async for event in events:
                if event.startswith(kinds.ERROR_EVENTS):
                    await events.aclose()
                    return self._judge(kind, fields, _error_of(event)).reply(kind.shape)
                first.append(event)
                if not holds_back or not any(mark in event for mark in kind.opens_with):
                    break
        except Exception as error:
            await events.aclose()
            return self._broken(kind, fields, error).reply(kind.shape)
        except BaseException:
            await events.aclose()
            raise
        return StreamReply(first, self._guarded(kind, events, fields), events, lease)

    async def _guarded(
        self, kind: Kind, events: AsyncGenerator[str, None], fields: dict[str, Any]
    ) -> AsyncGenerator[str, None]:
        """The events; an error among them in the client's shape, and nothing after it."""
        async with contextlib.aclosing(events):
            try:
                async for event in events:
                    if event.startswith(kinds.ERROR_EVENTS):
                        yield self._judge(kind, fields, _error_of(event)).events(kind)
                        return
                    yield event
            except Exception as error:
                yield self._broken(kind, fields, error).events(kind)

    def _broken(self, kind: Kind, fields: dict[str, Any], error: Exception) -> Refusal:
        """What an exception in the middle of a stream means to the client."""
        from pydantic import ValidationError

        if isinstance(error, ValidationError):  # not of the request: vLLM's events don't fit its own errors
            return self._judge(kind, fields, SimpleNamespace(code=500, message=INTERNAL, param=None), error)
        return self._refusal(kind, fields, error)

    def _refusal(self, kind: Kind, fields: dict[str, Any], error: Exception) -> Refusal:
        """What an exception means to the client."""
        import pydantic
        from vllm.entrypoints.serve.exception_handling.error_response import create_error_response

        from gateway.engine.core.sampling import complaint

        match error:
            case FieldRefusedError():
                return Refusal(400, error.message, error.param)
            case EngineError():
                return Refusal(503, error.message)
            case pydantic.ValidationError():
                field, message = complaint(error)
                return Refusal(400, f"{field}: {message}" if field else message, field)
        return self._judge(kind, fields, create_error_response(error).error, error)

    def _judge(self, kind: Kind, fields: dict[str, Any], error: Any, cause: Exception | None = None) -> Refusal:
        """What vLLM's ErrorInfo means to the client."""
        if error.code == 503 or self._engine.is_dead:
            return Refusal(503, error.message if error.code == 503 else GONE)
        if error.code < 500:
            return self._judge_refused(kind, fields, error)
        # What vLLM calls an internal error when it could not compile the grammar of a request.
        if (param := checks.grammar_field(fields)) is not None:
            return Refusal(400, f"{param}: the engine could not compile this, or no text fits it: simplify it", param)
        log.error("inference failed: %s", error.message, exc_info=cause)
        return Refusal(error.code, error.message, error.param)

    def _judge_refused(self, kind: Kind, fields: dict[str, Any], error: Any) -> Refusal:
        """What vLLM itself holds to be the client's mistake, with a field that the client knows."""
        if error.param == "input_tokens":  # vLLM's name for a prompt that does not fit, which no request has
            return Refusal(error.code, error.message, kind.prompt)
        if error.param == "max_tokens" and all(fields.get(name) is None for name in checks.LENGTHS):
            window = self._engine.max_model_len
            message = f"{kind.prompt} leaves no room in the window of {window} tokens for an answer: shorten it"
            return Refusal(error.code, message, kind.prompt)
        return Refusal(error.code, error.message, error.param)


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
