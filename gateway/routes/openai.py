"""OpenAI's API. vLLM's handlers do the work; here are only names, keys and the way out."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar import Request, Router, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from litestar.types import ASGIApp

from gateway.adapters import Model
from gateway.engine import Reply, StreamReply
from gateway.engine.handlers import model_of, parse
from gateway.http_errors import openai_error
from gateway.protocol import responses
from gateway.routes.dependencies import Caller, Services
from gateway.streaming import EventStream, WholeReply, unless_client_leaves

log = logging.getLogger(__name__)

Serve = Callable[..., Awaitable[Reply | StreamReply]]


@post("/chat/completions", status_code=200)
async def chat_completions(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Answer a conversation, whole or as server-sent events."""
    return await _answer(request, services, caller, services.handlers.chat)


@post("/completions", status_code=200)
async def completions(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Continue a text, whole or as server-sent events."""
    return await _answer(request, services, caller, services.handlers.completions)


@get("/models")
async def list_models(services: Services, caller: Caller) -> responses.ModelList:
    """The base model, and the caller's bakes and finished checkpoints, newest first."""
    return responses.ModelList(data=[_view(services, model) for model in services.adapters.models(caller.user)])


@get("/models/{name:path}")
async def get_model(services: Services, caller: Caller, name: FromPath[str]) -> responses.Model:
    """One model, by any of its spellings."""
    return _view(services, services.adapters.resolve(name.removeprefix("/"), caller.user))


async def _answer(request: Request[None, None, State], services: Services, caller: Caller, serve: Serve) -> ASGIApp:
    fields = parse(await request.body())
    reply = await unless_client_leaves(request.receive, _serve(services, caller, fields, request.headers, serve))
    if isinstance(reply, StreamReply):
        return EventStream(reply)
    return WholeReply(reply.status, reply.body, reply.headers)


async def _serve(
    services: Services, caller: Caller, fields: dict[str, Any], headers: Mapping[str, str], serve: Serve
) -> Reply | StreamReply:
    model = services.adapters.resolve(model_of(fields), caller.user)
    if model.checkpoint is not None:
        await services.engine.load(model.name, model.checkpoint.path)
    return await serve(fields, headers, model=model.name)


def _view(services: Services, model: Model) -> responses.Model:
    base, checkpoint = services.engine.name, model.checkpoint
    return responses.Model(
        id=model.name,
        created=services.started if checkpoint is None else checkpoint.created,
        owned_by="bread" if checkpoint is None else checkpoint.user,
        root=base,
        parent=None if checkpoint is None else base,
        max_model_len=services.engine.max_model_len if services.engine.is_ready else None,
    )


ROUTER = Router(
    "/v1",
    route_handlers=[chat_completions, completions, list_models, get_model],
    exception_handlers={Exception: openai_error},
    tags=["openai"],
)
