"""Targets: their settings, stim and rollout."""

import asyncio
from typing import Annotated, Any, Literal

from litestar import Response, Router, delete, get, post, put
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from baker.config.target import TargetConfig
from baker.repos import references, targets
from baker.repos.catalog import Catalog
from baker.status import Stage, Standing
from baker.storage.files import read_lines
from baker.storage.home import output_file
from baker.storage.job import TargetJob
from gateway.protocol import requests, responses
from gateway.routes.bread import batches, views
from gateway.routes.cleanup import remove_folders
from gateway.routes.dependencies import Caller, Services

Offset = Annotated[int, QueryParameter(ge=0)]
Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
TargetStage = Literal[Stage.STIM, Stage.ROLLOUT]
IdempotencyKey = Annotated[str | None, HeaderParameter(name="Idempotency-Key")]

WAIT_SECONDS = 1.5
"""Longest wait of a run call for a stage that ends at once. Otherwise its client sleeps 30 s before it asks again."""


@get("/")
async def list_targets(services: Services, caller: Caller, repo: FromPath[str]) -> responses.TargetList:
    """The targets of the repo."""
    names = await services.catalog(Catalog.names, "targets", caller.user, repo)
    return responses.TargetList(targets=names, items=[responses.TargetItem(target_name=name) for name in names])


@post("/")
async def create_target(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.TargetCreate]
) -> Response[responses.Target]:
    """Create a target: 201, or 200 if it exists with the same config; with another config it is 409."""
    result = await services.catalog(
        targets.put,
        caller.user,
        repo,
        data.target_name,
        data.template,
        data.overrides or {},
        may_change=False,
    )
    answer = await _view(services, caller, repo, data.target_name, result.value)
    return Response(answer, status_code=201 if result.is_new else 200)


@post("/batch", status_code=200)
async def create_targets(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.TargetBatch]
) -> responses.Batch:
    """Add targets. Those that fail are listed with the reason."""
    items = batches.target_items(caller.user, repo, data.targets, may_change=False)
    return await services.catalog(batches.put_each, caller.user, repo, "put-target", items)


@put("/batch")
async def set_targets(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.TargetBatch]
) -> responses.Batch:
    """Add targets, or change those that were not run yet. Those that fail are listed with the reason."""
    items = batches.target_items(caller.user, repo, data.targets, may_change=True)
    return await services.catalog(batches.put_each, caller.user, repo, "put-target", items)


@put("/{target:str}")
async def set_target(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str], data: JSONBody[requests.TargetSet]
) -> responses.Target:
    """Create or change a target. Once it has run, a change of its config is 409."""
    result = await services.catalog(
        targets.put, caller.user, repo, target, data.template, data.overrides or {}, may_change=True
    )
    return await _view(services, caller, repo, target, result.value)


@get("/{target:str}")
async def get_target(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str]
) -> responses.Target:
    """One target, with its effective config."""
    config = await services.catalog(targets.get, caller.user, repo, target)
    return await _view(services, caller, repo, target, config)


@delete("/{target:str}", status_code=200)
async def delete_target(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str], prune: FromQuery[bool] = False
) -> responses.Deleted:
    """Remove a target with its outputs. Bakes keep a copy of their training data. `POST /undo` brings it back within 7
    days; with `prune`, nothing does."""
    deletion = await services.catalog(targets.delete, caller.user, repo, target, prune=prune)
    await remove_folders(services, deletion.removed)
    return views.deleted(f"Target {target!r} deleted", deletion)


@post("/{target:str}/stim", status_code=200)
async def run_stim(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str], key: IdempotencyKey = None
) -> responses.JobStatus:
    """Start stim: generate the target's questions. A stage that is running or complete is not started again."""
    return await _run(services, caller, Stage.STIM, repo, target, key)


@post("/{target:str}/stim/cancel", status_code=200)
async def cancel_stim(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str]
) -> responses.JobStatus:
    """Stop the stage now. Its finished items stay readable. Running it again starts over."""
    await services.jobs.cancel(Stage.STIM, caller.user, repo, target)
    return await _status(services, caller, Stage.STIM, repo, target)


@get("/{target:str}/stim")
async def stim_status(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str]
) -> responses.JobStatus:
    """The state of the target's latest stim, with its warnings."""
    return await _status(services, caller, Stage.STIM, repo, target)


@get("/{target:str}/stim/output")
async def stim_output(
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    target: FromPath[str],
    offset: Offset = 0,
    limit: Limit = 100,
) -> responses.OutputPage:
    """The questions, in pages; while stim runs, those that are finished."""
    job = await services.catalog(targets.latest_stim, caller.user, repo, target)
    stimuli = await _rows(services, job, offset, limit)
    rows = [] if job is None else views.stimuli(job, stimuli)
    return views.output_page(job, await _standing(services, job), rows, offset, limit)


@post("/{target:str}/rollout", status_code=200)
async def run_rollout(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str], key: IdempotencyKey = None
) -> responses.JobStatus:
    """Start rollout: the teacher answers the questions. It waits for a stim under way."""
    return await _run(services, caller, Stage.ROLLOUT, repo, target, key)


@post("/{target:str}/rollout/cancel", status_code=200)
async def cancel_rollout(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str]
) -> responses.JobStatus:
    """Stop the stage now. Its finished items stay readable. Running it again starts over."""
    await services.jobs.cancel(Stage.ROLLOUT, caller.user, repo, target)
    return await _status(services, caller, Stage.ROLLOUT, repo, target)


@get("/{target:str}/rollout")
async def rollout_status(
    services: Services, caller: Caller, repo: FromPath[str], target: FromPath[str]
) -> responses.JobStatus:
    """The state of the target's latest rollout, with its warnings."""
    return await _status(services, caller, Stage.ROLLOUT, repo, target)


@get("/{target:str}/rollout/output")
async def rollout_output(
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    target: FromPath[str],
    offset: Offset = 0,
    limit: Limit = 100,
) -> responses.OutputPage:
    """The answers, in pages; while rollout runs, those that are finished."""
    job = await services.catalog(targets.latest_rollout, caller.user, repo, target)
    rows = await _rows(services, job, offset, limit)
    return views.output_page(job, await _standing(services, job), rows, offset, limit)


async def _view(services: Services, caller: Caller, repo: str, target: str, config: TargetConfig) -> responses.Target:
    return views.target(target, config, await services.catalog(references.target_warnings, caller.user, repo, config))


async def _run(
    services: Services, caller: Caller, stage: TargetStage, repo: str, target: str, key: str | None
) -> responses.JobStatus:
    job = await services.jobs.start(stage, caller.user, repo, target, key)
    await services.jobs.wait(job, WAIT_SECONDS)
    return await _status(services, caller, stage, repo, target)


async def _status(
    services: Services, caller: Caller, stage: TargetStage, repo: str, target: str
) -> responses.JobStatus:
    method = targets.latest_stim if stage is Stage.STIM else targets.latest_rollout
    job = await services.catalog(method, caller.user, repo, target)
    return views.job_status(job, await _standing(services, job))


async def _standing(services: Services, job: TargetJob | None) -> Standing:
    return Standing() if job is None else await services.jobs.standing(job)


async def _rows(services: Services, job: TargetJob | None, offset: int, limit: int) -> list[dict[str, Any]]:
    """A page of the job's output. Never more rows than the job has counted, so that `lines` and the pages agree."""
    if job is None or offset >= job.lines:
        return []
    return await asyncio.to_thread(read_lines, output_file(services.home, job), offset, min(limit, job.lines - offset))


ROUTER = Router(
    "/v1/repo/{repo:str}/targets",
    route_handlers=[
        list_targets,
        create_target,
        create_targets,
        set_targets,
        set_target,
        get_target,
        delete_target,
        run_stim,
        cancel_stim,
        stim_status,
        stim_output,
        run_rollout,
        cancel_rollout,
        rollout_status,
        rollout_output,
    ],
    tags=["targets"],
)
