"""Merges, cherry-picks and reverts."""

from functools import partial

import msgspec
from litestar import Request, Response, Router, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

from baker.errors import ConflictError
from baker.history.ref_table import HEAD, RefKind
from baker.merge_report import MergeReport
from baker.merging import compose, requests
from baker.merging.merger import conflict_of
from baker.merging.plan import FAST_FORWARD, NEWEST, UP_TO_DATE
from baker.merging.requests import Planned
from baker.status import Stage
from baker.versions import refs
from gateway.http.asgi import unless_client_leaves
from gateway.http.progress_stream import OnProgress, progress_stream
from gateway.protocol import merging
from gateway.routes.dependencies import Caller, Services
from gateway.routes.names import show_names


@post("/merges", status_code=200)
async def merge(
    request: Request[None, None, State],
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    data: JSONBody[merging.MergeRequest],
) -> Response[merging.Merge]:
    """Merge versions: measure where they contradict each other, then start the bake that the merge becomes.

    409 if they contradict each other and no `resolution`, `weights` or `compose` says what to do, or if the request is
    ambiguous. The bake's `merge` has what is left of each version; its name moves only if that is enough.
    """
    work = partial(_merge, services, caller.user, repo, data)
    if data.stream:
        return await progress_stream(request, work)
    return Response(await unless_client_leaves(request.receive, work(lambda done, total: None)))


async def _merge(
    services: Services, user: str, repo: str, data: merging.MergeRequest, on_progress: OnProgress
) -> merging.Merge:
    asked = requests.MergeRequest(
        merge={
            "kind": data.kind,
            "others": data.others,
            "weights": data.weights,
            "base": data.base,
            "strategy": data.strategy,
            "resolution": data.resolution,
            "rank": data.rank,
            "probe": data.probe,
            "allows_held_back": data.allow_held_back,
        },
        into=data.into,
        name=data.name,
        message=data.message,
        overrides=data.overrides,
    )
    rank = services.settings.max_lora_rank
    try:
        planned = await services.catalog(requests.plan, user, repo, asked, max_rank=rank)
    except ConflictError as error:
        if (answer := await _without_weights(services, user, repo, data, asked, error)) is not None:
            return answer
        raise
    report = await services.merger.preview(user, repo, planned.config, planned.inputs, on_progress)
    if (complaint := conflict_of(report, planned.config.merge)) is not None and not data.dry_run:
        raise ConflictError(complaint, detail=[_conflict_detail(complaint, report)], code="MERGE_CONFLICT")
    if data.dry_run:
        return _answer("planned", complaint or "nothing was made: this was a dry run", planned, report)
    if planned.config.merge.meant_strategy == "compose":
        questions = await services.merger.questions(planned.inputs)
        await services.catalog(compose.add_sources, user, repo, planned.name, planned.inputs, questions)
    await services.catalog(requests.save, user, repo, planned, max_rank=rank)
    if planned.config.merge.meant_strategy == "compose":
        for stage in (Stage.STIM, Stage.ROLLOUT):
            await services.jobs.start(stage, user, repo, planned.name)
    await services.jobs.start(Stage.BAKE, user, repo, planned.name)
    return _answer("started", f"bake {planned.name!r} makes the merge", planned, report)


async def _without_weights(
    services: Services,
    user: str,
    repo: str,
    data: merging.MergeRequest,
    asked: requests.MergeRequest,
    error: ConflictError,
) -> merging.Merge | None:
    """The answer for versions of which one came from the other, and for a branch whose newest version is reverted; None
    for other errors."""
    kind = error.detail[0]["type"] if error.detail else None
    if kind == NEWEST:
        moved = await services.catalog(requests.take_back, user, repo, asked, is_dry=data.dry_run)
        if moved is None:
            return None
        if data.dry_run:
            return merging.Merge(state="planned", message=f"branch {moved.branch!r} would move to {moved.commit[:12]}")
        await show_names(services, user, repo)
        return merging.Merge(state="moved", message=f"branch {moved.branch!r} moved back to {moved.commit[:12]}")
    if kind == UP_TO_DATE:
        return merging.Merge(state="up_to_date", message=error.message)
    if kind != FAST_FORWARD:
        return None
    head = await services.catalog(refs.head, user, repo)
    if data.into != HEAD or data.dry_run or head is None or len(data.others) > 1:
        return merging.Merge(state="fast_forward", message=error.message)
    await services.catalog(refs.put, user, repo, head.name, RefKind.BRANCH, data.others[0], message="")
    await show_names(services, user, repo)
    return merging.Merge(state="fast_forward", message=f"branch {head.name!r} moved to {data.others[0]}")


def _conflict_detail(complaint: str, report: MergeReport) -> dict[str, object]:
    return {
        "loc": ["body", "others"],
        "msg": complaint,
        "type": "merge_conflict",
        "conflict": msgspec.to_builtins(report.conflict),
    }


def _answer(state: str, message: str, planned: Planned, report: MergeReport) -> merging.Merge:
    sides = [{"label": side.label, "commit": side.commit, "weight": side.weight} for side in planned.inputs.sides]
    return msgspec.convert(
        {
            "state": state,
            "message": message,
            "bake": None if state == "planned" else planned.name,
            "base": planned.inputs.base_commit,
            "sides": sides,
            "report": report,
        },
        merging.Merge,
    )


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[merge], tags=["history"])
