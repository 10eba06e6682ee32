"""Commits: the log of a repo's versions, and one of them."""

from typing import Annotated

import msgspec
from litestar import Router, get
from litestar.params import FromPath, FromQuery, QueryParameter

from baker.versions import log
from gateway.protocol import history
from gateway.routes.dependencies import Caller, Services
from gateway.routes.history import views
from gateway.routes.history.transfer import put_commit

PAGE, LONGEST_PAGE = 100, 1000
"""Commits in one page: by default, and at most."""

Limit = Annotated[int, QueryParameter(ge=1, le=LONGEST_PAGE)]


@get("/commits")
async def list_commits(
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    ref: FromQuery[str | None] = None,
    all: FromQuery[bool] = False,
    limit: Limit = PAGE,
    after: FromQuery[str | None] = None,
) -> history.CommitPage:
    """The versions that the repo's names, or `ref`, came from, newest first. With `all`, also the checkpoints that
    trainings wrote on the way."""
    page = await services.catalog(log.log, caller.user, repo, revision=ref, with_siblings=all, limit=limit, after=after)
    return views.page(page)


# Not `{rev:path}`, which would take the routes of `transfer.py` too. A revision has at most one slash.
@get(["/commits/{rev:str}", "/commits/{rev:str}/{step:str}"])
async def get_commit(
    services: Services, caller: Caller, repo: FromPath[str], rev: FromPath[str], step: FromPath[str | None] = None
) -> history.Commit:
    """One version, by any revision that means it, with its recipe: the settings, targets and prompts that made it."""
    revision = rev if step is None else f"{rev}/{step}"
    entry, recipe = await services.catalog(log.show, caller.user, repo, revision)
    return msgspec.structs.replace(views.commit(entry), recipe=recipe)


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[list_commits, get_commit, put_commit], tags=["history"])
