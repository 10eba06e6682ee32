"""The served models: in OpenAI's shape, and in Anthropic's for clients that name a version of Anthropic's API."""

from datetime import UTC, datetime
from typing import Any, Literal

from litestar import Request, Response, Router, get
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery

from baker.errors import InvalidInputError
from baker.history.ref_table import RefKind
from baker.model_names import shortened
from gateway.http.errors import anthropic_error, openai_error
from gateway.protocol import responses
from gateway.routes.dependencies import Caller, Services
from gateway.serving.pointers import Model

PAGE, LONGEST_PAGE = 20, 1000
"""Models in one of Anthropic's pages: by default, and at most."""

AnyRequest = Request[Any, Any, Any]


@get("/v1/models", summary="List the models")
async def list_models(
    request: Request[None, None, State],
    services: Services,
    caller: Caller,
    limit: FromQuery[str | None] = None,
    before_id: FromQuery[str | None] = None,
    after_id: FromQuery[str | None] = None,
) -> responses.ModelList | responses.AnthropicModelList:
    """The base model, then the caller's bakes and finished checkpoints, newest first. With the header
    `anthropic-version`, in Anthropic's shape and in pages: `limit`, `before_id`, `after_id`."""
    models = services.registry.models(caller.user)
    if _is_anthropic(request):
        page, has_more = _page(models, limit or str(PAGE), before_id, after_id)
        data = [_anthropic_view(services, model, model.name, _version(model)) for model in page]
        first, last = (page[0].name, page[-1].name) if page else (None, None)
        return responses.AnthropicModelList(data=data, has_more=has_more, first_id=first, last_id=last)
    return responses.ModelList(data=[_view(services, model, model.name, _version(model)) for model in models])


@get("/v1/models/{name:path}", summary="Get one model")
async def get_model(
    request: Request[None, None, State], services: Services, caller: Caller, name: FromPath[str]
) -> responses.Model | responses.AnthropicModel:
    """One model, by any spelling of its name, which is then the answer's `id`; `served` is the version that it means.
    With the header `anthropic-version`, in Anthropic's shape."""
    asked = name.removeprefix("/")
    model = services.registry.resolve(asked, caller.user)
    served = services.engine.name if model.checkpoint is None else model.name
    listed = next((each for each in services.registry.models(caller.user) if each.name == asked), None)
    view = _anthropic_view if _is_anthropic(request) else _view
    return view(services, model if listed is None else listed, asked, served)


def _version(model: Model) -> str:
    """The full name of the version that a name in the list points to; the base model's own name."""
    return model.name if model.checkpoint is None else model.checkpoint.name


def _view(services: Services, model: Model, name: str, served: str) -> responses.Model:
    base, checkpoint = services.engine.name, model.checkpoint
    return responses.Model(
        id=name,
        created=_created(services, model),
        owned_by="bread" if checkpoint is None else checkpoint.user,
        root=base,
        parent=None if checkpoint is None else checkpoint.parent or base,
        max_model_len=_context(services),
        served=served,
        kind=_kind(model, name),
        commit=None if checkpoint is None else checkpoint.commit_id,
    )


def _kind(model: Model, name: str) -> Literal["base", "bake", "checkpoint", "branch", "tag", "revision"]:
    checkpoint = model.checkpoint
    if checkpoint is None:
        return "base"
    if model.ref is not None:
        return "tag" if model.ref.kind is RefKind.TAG else "branch"
    if name == checkpoint.name:
        return "checkpoint"
    return "bake" if name == f"{checkpoint.repo}/{checkpoint.bake}" else "revision"


def _anthropic_view(services: Services, model: Model, name: str, served: str) -> responses.AnthropicModel:
    context = _context(services)
    return responses.AnthropicModel(
        id=name,
        display_name=name,
        created_at=datetime.fromtimestamp(_created(services, model), UTC),
        max_input_tokens=context,
        max_tokens=context,
        served=served,
    )


def _created(services: Services, model: Model) -> int:
    return services.started if model.checkpoint is None else model.checkpoint.created


def _context(services: Services) -> int | None:
    return services.engine.max_model_len if services.engine.is_ready else None


def _page(models: list[Model], limit_text: str, before: str | None, after: str | None) -> tuple[list[Model], bool]:
    """A page of Anthropic's list, and whether there are more models in its direction.

    Raises: InvalidInputError for a wrong `limit`, both cursors at once, or a cursor that is no model of the list.
    """
    limit = _limit(limit_text)
    if before and after:
        raise InvalidInputError("before_id and after_id exclude each other: send one of them")
    names = [model.name for model in models]
    if before:
        end = _position(names, "before_id", before)
        return models[max(0, end - limit) : end], end > limit
    start = _position(names, "after_id", after) + 1 if after else 0
    return models[start : start + limit], len(models) > start + limit


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= LONGEST_PAGE:
        return int(text)
    raise InvalidInputError(f"limit is {shortened(text)!r}: it must be a number from 1 to {LONGEST_PAGE}")


def _position(names: list[str], field: str, name: str) -> int:
    if name not in names:
        raise InvalidInputError(f"{field} is {shortened(name)!r}: there is no such model in the list")
    return names.index(name)


def _is_anthropic(request: AnyRequest) -> bool:
    return "anthropic-version" in request.headers


def _error(request: AnyRequest, error: Exception) -> Response[bytes]:
    return anthropic_error(request, error) if _is_anthropic(request) else openai_error(request, error)


ROUTER = Router("/", route_handlers=[list_models, get_model], exception_handlers={Exception: _error}, tags=["openai"])
