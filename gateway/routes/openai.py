"""OpenAI's API. vLLM's handlers do the work; here are only names, keys and the way out."""

from litestar import Request, Router, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from litestar.types import ASGIApp

from baker.errors import InvalidInputError, NotFoundError
from gateway.engine.requests import kinds
from gateway.engine.requests.body import model_of, parse
from gateway.http.errors import openai_error
from gateway.protocol import responses
from gateway.routes.dependencies import Caller, Services
from gateway.serving.pointers import Model


@post("/v1/chat/completions", status_code=200)
async def chat_completions(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Answer a conversation, whole or as server-sent events."""
    return services.pipeline.answer(request, caller, kinds.CHAT)


@post("/v1/completions", status_code=200)
async def completions(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Continue a text, whole or as server-sent events."""
    return services.pipeline.answer(request, caller, kinds.COMPLETION)


@post("/v1/responses", status_code=200)
async def create_response(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Answer an input, whole or as server-sent events. Nothing is stored."""
    return services.pipeline.answer(request, caller, kinds.RESPONSES)


@get("/v1/responses/{response:str}")
async def get_response(response: FromPath[str]) -> None:
    """Always 404: responses are not kept."""
    raise NotFoundError(f"There is no response {response[:128]!r}: responses are not kept here")


@post("/v1/responses/{response:str}/cancel")
async def cancel_response(response: FromPath[str]) -> None:
    """Always 404: a response ends when its client leaves."""
    raise NotFoundError(f"There is no response {response[:128]!r}: one ends when its client closes the connection")


@post(["/tokenize", "/v1/tokenize"], status_code=200)
async def tokenize(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """The token ids of a text or a conversation."""
    return services.pipeline.answer(request, caller, kinds.TOKENIZE)


@post(["/detokenize", "/v1/detokenize"], status_code=200)
async def detokenize(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """The text of token ids."""
    return services.pipeline.answer(request, caller, kinds.DETOKENIZE)


@post("/v1/embeddings", status_code=200)
async def embeddings(request: Request[None, None, State], services: Services, caller: Caller) -> None:
    """Always 400: the models served here write text."""
    model = services.adapters.resolve(model_of(parse(await request.body())), caller.user)
    raise InvalidInputError(f"The model {model.name!r} writes text and has no embeddings")


@get("/v1/models")
async def list_models(services: Services, caller: Caller) -> responses.ModelList:
    """The base model, and the caller's bakes and finished checkpoints, newest first."""
    return responses.ModelList(data=[_view(services, model) for model in services.adapters.models(caller.user)])


@get("/v1/models/{name:path}")
async def get_model(services: Services, caller: Caller, name: FromPath[str]) -> responses.Model:
    """One model, by any of its spellings."""
    return _view(services, services.adapters.resolve(name.removeprefix("/"), caller.user))


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
    "/",
    route_handlers=[
        chat_completions,
        completions,
        create_response,
        get_response,
        cancel_response,
        tokenize,
        detokenize,
        embeddings,
        list_models,
        get_model,
    ],
    exception_handlers={Exception: openai_error},
    tags=["openai"],
)
