"""Branches, tags and HEAD."""

from litestar import Response, Router, delete, get, put
from litestar.params import FromPath, FromQuery, JSONBody

from baker.history.ref_table import RefKind
from baker.versions import refs
from gateway.protocol import history, responses
from gateway.routes.dependencies import Caller, Services
from gateway.routes.history import views
from gateway.routes.names import show_names


@get("/refs")
async def list_refs(services: Services, caller: Caller, repo: FromPath[str]) -> history.RefList:
    """Bakes, branches, tags, and what other servers' names meant when they were last asked."""
    known = await services.catalog(refs.listing, caller.user, repo)
    head = next((each.name for each in known if each.is_head), None)
    return history.RefList(refs=[views.ref(each, repo) for each in known], head=head)


@put("/refs/{name:str}")
async def set_ref(
    services: Services, caller: Caller, repo: FromPath[str], name: FromPath[str], data: JSONBody[history.RefPut]
) -> Response[history.Ref]:
    """Add a branch or tag: 201; or move a branch: 200. `repo/name` answers chat at once. 409 if the name is taken, the
    tag means another version, `from` is not what the name means now, or the branch would not move forward."""
    result = await services.catalog(
        refs.put,
        caller.user,
        repo,
        name,
        RefKind(data.kind),
        data.to,
        message=data.message,
        expected=data.expected,
        force=data.force,
    )
    await show_names(services, caller.user, repo)
    return Response(views.ref(result.value, repo), status_code=201 if result.is_new else 200)


@delete("/refs/{name:str}", status_code=200)
async def delete_ref(
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    name: FromPath[str],
    force: FromQuery[bool] = False,
) -> responses.Deleted:
    """Remove a branch or tag; its versions stay. A tag and the current branch need `force`."""
    kind = await services.catalog(refs.delete, caller.user, repo, name, force=force)
    await show_names(services, caller.user, repo)
    return responses.Deleted(message=f"{kind.capitalize()} {name!r} deleted")


@get("/head")
async def get_head(services: Services, caller: Caller, repo: FromPath[str]) -> history.Head:
    """The current branch, and the version that it means; both null if there is none."""
    branch = await services.catalog(refs.head, caller.user, repo)
    return history.Head(
        branch=None if branch is None else branch.name, commit=None if branch is None else branch.commit
    )


@put("/head")
async def set_head(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[history.HeadPut]
) -> history.Head:
    """Make another branch the current one, which HEAD means."""
    commit = await services.catalog(refs.switch, caller.user, repo, data.branch)
    await show_names(services, caller.user, repo)
    return history.Head(branch=data.branch, commit=commit)


ROUTER = Router(
    "/v1/repo/{repo:str}", route_handlers=[list_refs, set_ref, delete_ref, get_head, set_head], tags=["history"]
)
