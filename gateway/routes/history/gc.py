"""Garbage collection: what nothing needs any more, and the bin."""

from litestar import Router, get, post
from litestar.params import FromPath, JSONBody

from baker.repos.recycle_bin import KEPT_SECONDS
from gateway.protocol import history
from gateway.routes.dependencies import Caller, Services


@get("/gc")
async def list_garbage(services: Services, caller: Caller, repo: FromPath[str]) -> history.Garbage:
    """Versions that no bake, branch, tag, recent operation, job or other version needs, and what is in the bin.
    Changes nothing."""
    return await _garbage(services, caller, repo)


@post("/gc", status_code=200)
async def collect_garbage(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[history.Prune]
) -> history.Garbage:
    """Take these versions to the bin, where they stay for 7 days. With `prune`, remove them now, and all that the bin
    has; nothing brings that back. The answer has what is left."""
    freed = await services.bin.collect(caller.user, repo, prune=data.prune)
    return await _garbage(services, caller, repo, freed)


async def _garbage(services: Services, caller: Caller, repo: str, freed_bytes: int = 0) -> history.Garbage:
    unreachable = await services.bin.unreachable(caller.user, repo)
    return history.Garbage(
        unreachable=[
            history.UnreachableVersion(
                commit=each.version.commit_id, bytes=each.size, since=each.version.commit.created
            )
            for each in unreachable
        ],
        bin=[
            history.BinItem(
                kind=item.job.stage,
                name=item.job.name,
                operation=item.job.operation,
                bytes=item.size,
                deleted=item.job.deleted,
                until=item.job.deleted + KEPT_SECONDS,
            )
            for item in await services.bin.contents(caller.user, repo)
        ],
        freed_bytes=freed_bytes,
    )


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[list_garbage, collect_garbage], tags=["history"])
