"""The path of a model request: admitted, read, resolved, served, delivered, counted and logged."""

import asyncio
from functools import partial
from typing import Any

import msgspec
from litestar import Request
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.access.auth import Caller
from gateway.engine import Engine, Handlers
from gateway.engine.requests.body import model_of, parse
from gateway.engine.requests.kinds import Kind
from gateway.errors import OverloadedError, RequestTimeoutError
from gateway.http.asgi import disconnected, send_reply
from gateway.http.errors import reply_to
from gateway.http.request_ids import request_id
from gateway.inference.admission import Admission, Pass
from gateway.inference.delivery import Delivery, ErrorFormat, Patience
from gateway.inference.model_request import ModelRequest, Outcome
from gateway.inference.request_log import RequestLog
from gateway.inference.request_metrics import RequestMetrics
from gateway.protocol.errors import error_events
from gateway.serving.registry import Registry

PROMPT_FIELDS = ("messages", "prompt", "input", "system", "instructions")


class Pipeline:
    def __init__(
        self,
        registry: Registry,
        engine: Engine,
        handlers: Handlers,
        *,
        admission: Admission,
        patience: Patience,
        log: RequestLog,
        metrics: RequestMetrics,
    ) -> None:
        self.admission = admission
        self.metrics = metrics
        self._registry = registry
        self._engine = engine
        self._handlers = handlers
        self._patience = patience
        self._log = log

    def answer(self, request: Request[Any, Any, Any], caller: Caller, kind: Kind) -> ASGIApp:
        """The answer to a model request: one piece or server-sent events, with errors in the shape of its family."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await self._answer(request, caller, kind, send)

        return application

    async def _answer(self, request: Request[Any, Any, Any], caller: Caller, kind: Kind, send: Send) -> None:
        """Admit, read, resolve, serve and deliver; at the end, count and log, whatever happened."""
        model_request = ModelRequest(request_id(request.scope), request.scope["path_template"], caller)
        errors = ErrorFormat(
            reply=lambda error: reply_to(request, kind.shape, error),
            event=lambda body: error_events(kind.framing, msgspec.json.decode(body)).encode(),
        )
        place: Pass | None = None
        outcome = Outcome.CLIENT_LEFT  # if this is cancelled before there is anything to send
        try:
            place = self.admission.enter(caller.key)
            fields = await self._read_body(request)
            model_request.prompt = {name: fields[name] for name in PROMPT_FIELDS if name in fields}
            model = self._resolve(model_request, kind, fields)
        except Exception as error:
            reply = errors.reply(error)
            model_request.status = reply.status
            outcome = Outcome.OVERLOADED if isinstance(error, OverloadedError) else Outcome.of_status(reply.status)
            if place is not None:
                place.leave(0)  # a client that reads its refusal slowly takes no place from others
            await send_reply(reply, _headers(model_request, place, kind), send)
        else:
            headers = {**request.headers, "x-request-id": model_request.id}
            work = self._handlers.serve(kind, fields, headers, model=model, usage=model_request.usage)
            delivery = Delivery(
                asyncio.ensure_future(work),
                asyncio.create_task(disconnected(request.receive)),
                model_request,
                self._patience,
                errors,
                headers=partial(_headers, model_request, place, kind),
                tokens_so_far=self._engine.tokens_so_far,
            )
            await delivery.wait(is_stream=_is_stream(fields.get("stream")))
            try:
                await delivery.send(send)
            finally:
                outcome = delivery.outcome
        finally:
            if place is not None:
                place.leave(sum(model_request.usage.tokens or ()))
            self.metrics.count(model_request, outcome)
            self._log.write(model_request, outcome)

    async def _read_body(self, request: Request[Any, Any, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._patience.answer or None):
                return parse(await request.body())
        except TimeoutError:
            raise RequestTimeoutError(f"The body did not arrive within {self._patience.answer:g} s") from None

    def _resolve(self, model_request: ModelRequest, kind: Kind, fields: dict[str, Any]) -> str:
        """The engine's name for the requested model; an adapter is registered with the engine.

        Raises: FieldRefusedError if no model is named; UnknownModelError; AdapterError.
        """
        is_unnamed = not kind.needs_name and fields.get("model") is None
        model_request.requested_model = self._engine.name if is_unnamed else model_of(fields)
        model = self._registry.resolve(model_request.requested_model, model_request.caller.user)
        model_request.served_model, model_request.checkpoint = model.name, model.checkpoint
        if model.checkpoint is None or not kind.needs_adapter:
            return self._engine.name
        self._engine.register(model.name, model.checkpoint.path)
        return model.name


def _headers(model_request: ModelRequest, place: Pass | None, kind: Kind) -> dict[str, str]:
    """Response headers: what is left of the key's limits, and for OpenAI's clients the time that it took so far."""
    headers = {} if place is None else place.headers()
    if kind.shape == "openai":
        headers["openai-processing-ms"] = str(round(model_request.seconds * 1000))
    return headers


def _is_stream(field: object) -> bool | None:
    """What a body's `stream` means; None if only vLLM can tell: it also accepts 1 and "true"."""
    return bool(field) if field is None or isinstance(field, bool) else None
