"""Remotes of a repo: their URLs, and the names that they had when a client last asked them. No keys."""

from litestar import Router, delete, get, put
from litestar.params import FromPath, JSONBody

from baker.transfer import remotes
from baker.transfer.remotes import Tracked
from gateway.protocol import responses, transfer
from gateway.routes.dependencies import Caller, Services


@get("/")
async def list_remotes(services: Services, caller: Caller, repo: FromPath[str]) -> transfer.RemoteList:
    """The remotes of the repo, by name."""
    listed = await services.catalog(remotes.listing, caller.user, repo)
    return transfer.RemoteList(remotes=[_view(each) for each in listed])


@get("/{remote:str}")
async def get_remote(services: Services, caller: Caller, repo: FromPath[str], remote: FromPath[str]) -> transfer.Remote:
    """One remote, and the names that it had when it was last asked."""
    return _view(await services.catalog(remotes.get, caller.user, repo, remote))


@put("/{remote:str}")
async def set_remote(
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    remote: FromPath[str],
    data: JSONBody[transfer.RemotePut],
) -> transfer.Remote:
    """Add a remote, or change its URL. A URL with a password is refused: keys stay on the client."""
    return _view(await services.catalog(remotes.put, caller.user, repo, remote, data.url))


@delete("/{remote:str}", status_code=200)
async def delete_remote(
    services: Services, caller: Caller, repo: FromPath[str], remote: FromPath[str]
) -> responses.Deleted:
    """Forget a remote and its names. The commits that came from it stay."""
    await services.catalog(remotes.remove, caller.user, repo, remote)
    return responses.Deleted(message=f"Remote {remote!r} deleted")


@put("/{remote:str}/refs")
async def track_remote(
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    remote: FromPath[str],
    data: JSONBody[transfer.RemoteRefs],
) -> transfer.Remote:
    """Record which commits the remote's names mean, as `<remote>/<name>`. It can't be undone."""
    return _view(await services.catalog(remotes.track, caller.user, repo, remote, data.refs, data.verb))


def _view(tracked: Tracked) -> transfer.Remote:
    remote = tracked.remote
    return transfer.Remote(
        name=remote.name, url=remote.url, refs=tracked.refs, created=remote.created, updated=remote.updated
    )


ROUTER = Router(
    "/v1/repo/{repo:str}/remotes",
    route_handlers=[list_remotes, get_remote, set_remote, delete_remote, track_remote],
    tags=["history"],
)
