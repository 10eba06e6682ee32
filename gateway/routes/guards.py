"""Who is let in: run before a route, they leave behind the caller that its handler gets."""

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from baker.errors import InvalidInputError
from baker.repos.catalog import Catalog
from gateway.access.auth import Caller, act_as, user_named
from gateway.errors import ForbiddenError
from gateway.services import Services

PUBLIC = {"public": True}
"""`opt` of routes that need no key: for load balancers and scrapers, and links that are signed."""

Connection = ASGIConnection[Litestar, None, None, State]


async def require_key(connection: Connection, handler: BaseRouteHandler) -> None:
    """Identify the caller of every route that is not public, and for whom it acts."""
    if handler.opt.get("public"):
        return
    if (encoding := connection.headers.get("content-encoding", "identity")) != "identity":
        raise InvalidInputError(f"Content-Encoding {encoding!r} is not read here: send the body as it is")
    services: Services = connection.app.state.services
    caller = services.keys.identify(connection.headers.get("authorization"), connection.headers.get("x-api-key"))
    user = user_named([*connection.query_params.getall("user_id", []), *connection.headers.getall("x-user-id", [])])
    repo = connection.path_params.get("repo")
    if user is None and repo is not None and caller.is_master:
        user = await services.catalog(Catalog.whose_repo, repo)
    connection.state.caller = caller if user is None else act_as(caller, user, services.keys)


def require_master(connection: Connection, handler: BaseRouteHandler) -> None:
    """Refuse every key but the master key. Runs after `require_key`."""
    caller: Caller = connection.state.caller
    if not caller.is_master:
        raise ForbiddenError(f"This needs the master key, and yours is {caller.user!r}'s")


def caller(request: Request[None, None, State]) -> Caller:
    """Provides `dependencies.Caller`."""
    found: Caller = request.state.caller
    return found
