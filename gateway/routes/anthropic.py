"""Anthropic's Messages API with the served models, for Anthropic's clients and for question generators."""

from litestar import Request, Router, post
from litestar.datastructures import State
from litestar.types import ASGIApp

from gateway.engine.requests import kinds
from gateway.http.errors import anthropic_error
from gateway.routes.dependencies import Caller, Services


@post("/messages", status_code=200)
async def messages(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Answer a conversation, in one piece or as server-sent events."""
    return services.pipeline.answer(request, caller, kinds.MESSAGES)


@post("/messages/count_tokens", status_code=200)
async def count_tokens(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """The number of tokens that a conversation has for the model."""
    return services.pipeline.answer(request, caller, kinds.COUNT_TOKENS)


ROUTER = Router(
    "/v1",
    route_handlers=[messages, count_tokens],
    exception_handlers={Exception: anthropic_error},
    tags=["anthropic"],
)
