"""Request bodies through vLLM's own serving code, without its web framework.

The pipeline parses the body (`body.py`), resolves the model's name and registers its adapter; `Handlers.serve` does
the rest, for every kind of request in `kinds.py`. It returns status, headers and bytes, so any web framework can send
them, and raises the gateway's errors (`refusals.py`); what these are to a client is decided in `gateway/http`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from types import SimpleNamespace
from typing import Any

from baker.errors import AdapterError, BakeryError, NotFoundError
from gateway.engine.adapters.slots import Lease
from gateway.engine.core.engine import Engine
from gateway.engine.core.usage import Usage
from gateway.engine.requests import checks, kinds
from gateway.engine.requests.conversation import continued
from gateway.engine.requests.kinds import Kind
from gateway.engine.requests.refusals import Refusals
from gateway.engine.requests.stream import StreamReply
from gateway.errors import UnknownModelError, UnusableModelError
from gateway.protocol.errors import Framing, Shape
from gateway.protocol.replies import Reply

ErrorEvent = Callable[[Shape, Framing, BakeryError], str]
"""Writes an error as the last event of a stream that has begun."""

KEPT_HEADERS = ("x-request-id", "x-session-id", "traceparent", "tracestate")
"""The request headers that vLLM may see. It also obeys one that jumps the queue and one that picks a replica."""
MAX_REQUEST_ID = 128


class Handlers:
    """The inference routes of one engine."""

    def __init__(self, engine: Engine, error_event: ErrorEvent) -> None:
        self._engine = engine
        self._error_event = error_event

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
            fields: from `body.parse`.
            model: the base model's name or that of a registered adapter; replaces the one in `fields`.
            usage: receives the number of tokens read and written.
        Raises: UnknownModelError; UnusableModelError; FieldRefusedError, with vLLM's own status EngineRefusedError;
        EngineError; InferenceError.
        """
        await self._engine.awake()
        lease = await self._lease(model)
        refusals = Refusals(self._engine, kind, {**fields, "model": model})
        reply: Reply | StreamReply | None = None
        try:
            reply = await self._answer(refusals, headers, lease, usage or Usage())
        except BakeryError:
            raise
        except Exception as error:
            raise refusals.of_exception(error) from error
        finally:
            if not isinstance(reply, StreamReply):
                lease.release()
        return reply

    async def _lease(self, model: str) -> Lease:
        try:
            return await self._engine.lease(model)
        except NotFoundError as error:
            raise UnknownModelError(error.message) from error
        except AdapterError as error:
            raise UnusableModelError(error.message) from error

    async def _answer(
        self, refusals: Refusals, headers: Mapping[str, str], lease: Lease, usage: Usage
    ) -> Reply | StreamReply:
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse

        _, kind, fields = refusals
        if kind in (kinds.CHAT, kinds.TOKENIZE):
            fields = continued(fields)
        serving = self._engine.serving
        reads_only_text = not self._engine.running().model_config.is_multimodal_model
        checks.check(kind.name, fields, max_n=self._engine.settings.max_n, reads_only_text=reads_only_text)
        shim = SimpleNamespace(headers=_kept(headers), state=usage)
        result = await kinds.answer(kind, serving, await kinds.read(kind, fields), shim)
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # vLLM turns a cancellation into an answer: "Client disconnected"
        if isinstance(result, ErrorResponse):
            raise refusals.of_info(result.error)
        if isinstance(result, AsyncGenerator):
            return await self._stream(refusals, kinds.events(kind, result, usage), lease)
        return Reply(200, kinds.whole(kind, result, usage))

    async def _stream(self, refusals: Refusals, events: AsyncGenerator[str, None], lease: Lease) -> StreamReply:
        """Wait for the first event: if it is an error, the client still gets the error's own status.

        vLLM compiles a grammar after it has sent the events that open every stream. So these events are held back
        until the first one with text if the request has a grammar, and always for kinds that open a stream before the
        engine has checked the request.
        """
        kind = refusals.kind
        holds_back = kind.opens_early or checks.grammar_field(refusals.fields) is not None
        first: list[str] = []
        try:
            async for event in events:
                if event.startswith(kinds.ERROR_EVENTS):
                    raise refusals.of_info(kinds.error_of(event))
                first.append(event)
                if not holds_back or not any(mark in event for mark in kind.opens_with):
                    break
        except BakeryError:
            await events.aclose()
            raise
        except Exception as error:
            await events.aclose()
            raise refusals.of_broken_stream(error) from error
        except BaseException:
            await events.aclose()
            raise
        return StreamReply(first, self._guarded(refusals, events), events, lease)

    async def _guarded(self, refusals: Refusals, events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        """The events. An error among them gets the client's shape and ends the stream."""
        _, kind, _ = refusals
        async with contextlib.aclosing(events):
            try:
                async for event in events:
                    if event.startswith(kinds.ERROR_EVENTS):
                        refusal = refusals.of_info(kinds.error_of(event))
                        yield self._error_event(kind.shape, kind.framing, refusal)
                        return
                    yield event
            except Exception as error:
                yield self._error_event(kind.shape, kind.framing, refusals.of_broken_stream(error))


class _Headers(dict[str, str]):
    """Names in lower case, looked up in any case, as vLLM expects."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def _kept(headers: Mapping[str, str]) -> _Headers:
    kept = _Headers()
    for name in KEPT_HEADERS:
        value = headers.get(name)
        if value is not None:
            kept[name] = value[:MAX_REQUEST_ID] if name == "x-request-id" else value
    return kept
