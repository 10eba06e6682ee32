"""Downloads of weights: links to a checkpoint's archive, and the archive."""

from typing import Annotated

from litestar import HttpMethod, Request, Router, get, route
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ASGIApp

from baker.errors import InvalidInputError, NotFoundError
from baker.repos import bakes, models
from baker.repos.catalog import Catalog
from baker.types import Checkpoint
from baker.versions.archive import archive_name
from gateway.http.file_reply import FileReply
from gateway.protocol import responses
from gateway.routes.dependencies import Caller, Services
from gateway.routes.guards import PUBLIC

WEEK_SECONDS = 7 * 24 * 3600
ExpiresIn = Annotated[int, QueryParameter(ge=1, le=WEEK_SECONDS)]
AnyRequest = Request[None, None, State]


@get("/repo/{repo:str}/bakes/{bake:str}/download")
async def download_bake(
    request: AnyRequest,
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    bake: FromPath[str],
    checkpoint: FromQuery[int | None] = None,
    expires_in: ExpiresIn = 3600,
    prompts: FromQuery[bool] = False,
) -> responses.Download:
    """A link to a checkpoint's archive; by default of the checkpoint that the bake's name means."""
    of_bake = await services.catalog(_checkpoint_of_bake, caller.user, repo, bake, checkpoint)
    return _download(request, services, of_bake, expires_in, prompts)


# Litestar prefers a fixed path to /models/{name:path} of openai.py, in any order of registration.
@get("/models/download")
async def download_model(
    request: AnyRequest,
    services: Services,
    caller: Caller,
    name: FromQuery[str],
    expires_in: ExpiresIn = 3600,
    prompts: FromQuery[bool] = False,
) -> responses.Download:
    """A link to a model's archive, by any of the model's names."""
    checkpoint = await services.catalog(_checkpoint_of_model, caller.user, name)
    return _download(request, services, checkpoint, expires_in, prompts)


@route(
    "/files/weights/{user:str}/{repo:str}/{bake:str}/{step:int}/{file:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=PUBLIC,
    tags=["files"],
)
async def weights(
    request: AnyRequest,
    services: Services,
    user: FromPath[str],
    repo: FromPath[str],
    bake: FromPath[str],
    step: FromPath[int],
    file: FromPath[str],
    expires: FromQuery[int] = 0,
    sig: FromQuery[str] = "",
    prompts: FromQuery[bool] = False,
) -> ASGIApp:
    """The archive behind a link: a gzip tar, complete or in parts (Range)."""
    services.links.check(user, repo, bake, step, expires, sig, with_prompts=prompts)
    checkpoint = await services.catalog(bakes.find_checkpoint, user, repo, bake, step)
    if checkpoint is None:
        raise NotFoundError(f"Checkpoint {step} of bake {bake!r} was deleted")
    path = await services.archives.file_of(checkpoint, with_prompts=prompts)
    name = f"{archive_name(bake, step)}.tar.gz"
    return FileReply(path, name, "application/gzip", request.method, request.headers)


def _download(
    request: AnyRequest, services: Services, checkpoint: Checkpoint, expires_in: int, with_prompts: bool
) -> responses.Download:
    base_url = services.settings.base_url or str(request.base_url)
    return responses.Download(
        url=base_url.rstrip("/") + services.links.make(checkpoint, expires_in, with_prompts=with_prompts),
        expires_in=expires_in,
        checkpoint=checkpoint.step,
        bake_name=checkpoint.bake,
    )


def _checkpoint_of_bake(catalog: Catalog, user: str, repo: str, bake: str, step: int | None) -> Checkpoint:
    bakes.get(catalog, user, repo, bake)
    checkpoint = bakes.find_checkpoint(catalog, user, repo, bake, step)
    if checkpoint is None:
        what = "no finished checkpoint" if step is None else f"no checkpoint {step}"
        raise NotFoundError(f"Bake {bake!r} in repo {repo!r} has {what}")
    return checkpoint


def _checkpoint_of_model(catalog: Catalog, user: str, name: str) -> Checkpoint:
    named = models.read_name_in_rows(catalog, user, name)
    if named.ref is None:
        raise InvalidInputError(f"name is {name!r}: write user/repo/bake/checkpoint, as GET /v1/models lists them")
    if named.checkpoint is None:
        raise NotFoundError(f"Model {name!r} not found")
    return named.checkpoint


ROUTER = Router("/v1", route_handlers=[download_bake, download_model, weights], tags=["bakes"])
