"""Requests to a model, for the routes of both families: whose model, and the way in and out."""

from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.types import ASGIApp

from gateway.access.auth import Caller
from gateway.engine import Reply, StreamReply
from gateway.engine.requests.body import model_of
from gateway.engine.requests.kinds import Kind
from gateway.http.errors import reply_to
from gateway.inference.delivery import Wire
from gateway.inference.model_request import ModelRequest
from gateway.protocol.errors import error_events
from gateway.services import Services


async def answer(request: Request[None, None, State], services: Services, caller: Caller, kind: Kind) -> ASGIApp:
    """Answer a request of this kind, whole or as server-sent events."""

    async def work(exchange: ModelRequest, fields: dict[str, Any]) -> Reply | StreamReply:
        exchange.asked = model_of(fields)
        model = services.adapters.resolve(exchange.asked, caller.user)
        exchange.served, exchange.checkpoint = model.name, model.checkpoint
        name = services.engine.name
        if model.checkpoint is not None and kind.needs_adapter:
            services.engine.register(model.name, model.checkpoint.path)
            name = model.name
        headers = {**request.headers, "x-request-id": exchange.id}
        return await services.handlers.serve(kind, fields, headers, model=name, usage=exchange.usage)

    wire = Wire(
        reply=lambda error: reply_to(request, kind.shape, error),
        event=lambda body: error_events(kind.framing, msgspec.json.decode(body)).encode(),
    )
    return await services.traffic.answer(request, caller, wire, work)
