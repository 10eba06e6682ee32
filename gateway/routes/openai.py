"""OpenAI's API. Model requests go to the pipeline (`inference/pipeline.py`), and from there to vLLM's handlers."""

from litestar import Request, Router, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from litestar.types import ASGIApp

from baker.errors import InvalidInputError, NotFoundError
from gateway.engine.requests import kinds
from gateway.engine.requests.body import model_of, parse
from gateway.engine.requests.tokenizer import tokenizer_info
from gateway.http.errors import openai_error
from gateway.protocol import responses
from gateway.routes.dependencies import Caller, Services


@post("/v1/chat/completions", status_code=200)
async def chat_completions(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Answer a conversation, in one piece or as server-sent events."""
    return services.pipeline.answer(request, caller, kinds.CHAT)


@post("/v1/completions", status_code=200)
async def completions(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Continue a text, in one piece or as server-sent events."""
    return services.pipeline.answer(request, caller, kinds.COMPLETION)


@post("/v1/responses", status_code=200)
async def create_response(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """Answer an input, in one piece or as server-sent events. Nothing is stored."""
    return services.pipeline.answer(request, caller, kinds.RESPONSES)


@get("/v1/responses/{response:str}")
async def get_response(response: FromPath[str]) -> None:
    """Always 404: responses are not stored."""
    raise NotFoundError(f"There is no response {response[:128]!r}: responses are not stored here")


@post("/v1/responses/{response:str}/cancel")
async def cancel_response(response: FromPath[str]) -> None:
    """Always 404: to cancel a response, close its connection."""
    raise NotFoundError(f"There is no response {response[:128]!r}: close the connection to cancel a running one")


@post(["/tokenize", "/v1/tokenize"], status_code=200)
async def tokenize(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """The token ids of a text or a conversation."""
    return services.pipeline.answer(request, caller, kinds.TOKENIZE)


@post(["/detokenize", "/v1/detokenize"], status_code=200)
async def detokenize(request: Request[None, None, State], services: Services, caller: Caller) -> ASGIApp:
    """The text of token ids."""
    return services.pipeline.answer(request, caller, kinds.DETOKENIZE)


@get(["/tokenizer_info", "/v1/tokenizer_info"])
async def get_tokenizer_info(services: Services) -> responses.TokenizerInfo:
    """The tokenizer's special tokens and chat template, the same for all models; 404 without `--tokenizer-info on`."""
    if services.settings.tokenizer_info == "off":
        raise NotFoundError("/tokenizer_info is not served: start the service with --tokenizer-info on")
    return await tokenizer_info(services.engine)


@post("/v1/embeddings", status_code=200)
async def embeddings(request: Request[None, None, State], services: Services, caller: Caller) -> None:
    """Always 400: the served models generate text."""
    model = services.registry.resolve(model_of(parse(await request.body())), caller.user)
    raise InvalidInputError(f"The model {model.name!r} generates text and has no embeddings")


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
        get_tokenizer_info,
        embeddings,
    ],
    exception_handlers={Exception: openai_error},
    tags=["openai"],
)
