"""Bakes: their settings, training, metrics and checkpoints."""

import asyncio
from typing import Any

from litestar import Response, Router, delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody

from baker.config.bake import BakeConfig
from baker.errors import NotFoundError
from baker.repos import bakes, records, references
from baker.repos.bakes import LiveFirst
from baker.repos.catalog import Catalog
from baker.status import Stage, Standing
from baker.storage.files import read_lines
from baker.storage.home import PICTURE_SUFFIX, output_file
from baker.storage.job import BakeJob
from gateway.protocol import requests, responses
from gateway.routes.bread import batches, views
from gateway.routes.bread.targets import WAIT_SECONDS, IdempotencyKey
from gateway.routes.cleanup import clean_up
from gateway.routes.dependencies import Caller, Services
from gateway.routes.names import show_names


@get("/")
async def list_bakes(services: Services, caller: Caller, repo: FromPath[str]) -> responses.BakeList:
    """The bakes of the repo."""
    names = await services.catalog(Catalog.names, "bakes", caller.user, repo)
    return responses.BakeList(bakes=names, items=[responses.BakeItem(bake_name=name) for name in names])


@post("/")
async def create_bake(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.BakeCreate]
) -> Response[responses.Bake]:
    """Create a bake: 201, or 200 if it exists with the same config; with another config it is 409."""
    result = await services.catalog(
        bakes.put,
        caller.user,
        repo,
        data.bake_name,
        data.template,
        data.overrides or {},
        may_change=False,
        max_rank=services.settings.max_lora_rank,
    )
    return Response(await _status(services, caller, repo, data.bake_name), status_code=201 if result.is_new else 200)


@post("/batch", status_code=200)
async def create_bakes(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.BakeBatch]
) -> responses.Batch:
    """Add bakes. Those that fail are listed with the reason."""
    items = batches.bake_items(caller.user, repo, data.bakes, services.settings.max_lora_rank, may_change=False)
    return await services.catalog(batches.put_each, caller.user, repo, "put-bake", items)


@put("/batch")
async def set_bakes(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.BakeBatch]
) -> responses.Batch:
    """Add bakes, or change those that were not run yet. Those that fail are listed with the reason."""
    items = batches.bake_items(caller.user, repo, data.bakes, services.settings.max_lora_rank, may_change=True)
    return await services.catalog(batches.put_each, caller.user, repo, "put-bake", items)


@put("/{bake:str}")
async def set_bake(
    services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str], data: JSONBody[requests.BakeSet]
) -> responses.Bake:
    """Create or change a bake. Once it has run, a change of its config is 409."""
    await services.catalog(
        bakes.put,
        caller.user,
        repo,
        bake,
        data.template,
        data.overrides or {},
        may_change=True,
        max_rank=services.settings.max_lora_rank,
    )
    return await _status(services, caller, repo, bake)


@get("/{bake:str}")
async def get_bake(services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str]) -> responses.Bake:
    """One bake: its config, state, loss, checkpoints and model names."""
    return await _status(services, caller, repo, bake)


@post(["/{bake:str}", "/{bake:str}/start"], status_code=200)
async def run_bake(
    services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str], key: IdempotencyKey = None
) -> responses.Bake:
    """Start the bake's training. It waits for rollouts under way; one that is running or complete is not repeated."""
    job = await services.jobs.start(Stage.BAKE, caller.user, repo, bake, key)
    await services.jobs.wait(job, WAIT_SECONDS)
    return await _status(services, caller, repo, bake)


@post("/{bake:str}/cancel", status_code=200)
async def cancel_bake(services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str]) -> responses.Bake:
    """Stop the training now. Its checkpoints stay served. Running the unchanged bake again resumes the training."""
    await services.jobs.cancel(Stage.BAKE, caller.user, repo, bake)
    return await _status(services, caller, repo, bake)


@post("/{bake:str}/promote", status_code=200)
async def promote_checkpoint(
    services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str], data: JSONBody[requests.Promote]
) -> responses.Bake:
    """Point the bake's name to this checkpoint, from the next request on."""
    await services.promotion.promote(caller.user, repo, bake, data.checkpoint)
    return await _status(services, caller, repo, bake)


@post("/{bake:str}/rollback", status_code=200)
async def roll_back(services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str]) -> responses.Bake:
    """Point the bake's name back to the checkpoint before its last move. Repeating the request changes nothing."""
    await services.promotion.roll_back(caller.user, repo, bake)
    return await _status(services, caller, repo, bake)


@delete("/{bake:str}", status_code=200)
async def delete_bake(
    services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str], prune: FromQuery[bool] = False
) -> Response[responses.Deleted]:
    """Stop serving the bake's names at once. Requests in flight finish. `POST /undo` brings it back within 7 days; with
    `prune`, its files are removed now and nothing does."""
    deletion = await services.catalog(bakes.delete, caller.user, repo, bake, prune=prune)
    withdrawn = services.registry.withdraw(caller.user, repo, bake)
    await show_names(services, caller.user, repo)
    answer = views.deleted(f"Bake {bake!r} deleted", deletion)
    return Response(answer, background=clean_up(services, withdrawn, deletion.removed))


@get("/{bake:str}/metrics")
async def bake_metrics(
    services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str]
) -> list[dict[str, Any]]:
    """One row per step. Also for a deleted bake that others began from, under its name in the repo's tree."""
    job = await services.catalog(_job_with_metrics, caller.user, repo, bake)
    return [] if job is None else views.metrics(await asyncio.to_thread(read_lines, output_file(services.home, job)))


@get("/{bake:str}/metrics.png", media_type="image/png")
async def bake_curves(services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str]) -> bytes:
    """The metrics as curves, drawn when the training has ended or failed. Also for deleted bakes."""
    job = await services.catalog(_job_with_metrics, caller.user, repo, bake)
    picture = None if job is None else output_file(services.home, job).with_suffix(PICTURE_SUFFIX)
    if picture is None or not picture.exists():
        raise NotFoundError(f"The curves of bake {bake!r} are not drawn yet: ask again when its training is done")
    return await asyncio.to_thread(picture.read_bytes)


async def _status(services: Services, caller: Caller, repo: str, bake: str) -> responses.Bake:
    config, job, checkpoints, warnings = await services.catalog(_read, caller.user, repo, bake)
    standing = Standing() if job is None else await services.jobs.standing(job)
    return views.bake(bake, config, job, checkpoints, services.jobs.training, standing, warnings)


def _job_with_metrics(catalog: Catalog, user: str, repo: str, bake: str) -> BakeJob | None:
    """Raises: NotFoundError if there is neither such a bake nor the record of one."""
    return records.find(catalog, user, repo, bake) or bakes.latest_job(catalog, user, repo, bake)


def _read(catalog: Catalog, user: str, repo: str, bake: str) -> tuple[BakeConfig, BakeJob | None, LiveFirst, list[str]]:
    config = bakes.get(catalog, user, repo, bake)
    job = bakes.latest_job(catalog, user, repo, bake)
    warnings = references.bake_warnings(catalog, user, config) if job is None else []
    return config, job, bakes.live_first(catalog, user, repo, bake), warnings


ROUTER = Router(
    "/v1/repo/{repo:str}/bakes",
    route_handlers=[
        list_bakes,
        create_bake,
        create_bakes,
        set_bakes,
        set_bake,
        get_bake,
        run_bake,
        cancel_bake,
        promote_checkpoint,
        roll_back,
        delete_bake,
        bake_metrics,
        bake_curves,
    ],
    tags=["bakes"],
)
