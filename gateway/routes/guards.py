"""Guards check a request's key before its route runs, and store the caller for the route's handler."""

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from baker.errors import InvalidInputError
from baker.history.recorder import is_master
from baker.repos import repos
from gateway.access.auth import Caller, act_as, user_named
from gateway.errors import ForbiddenError
from gateway.services import Services

PUBLIC = {"public": True}
"""`opt` of routes that need no key: for load balancers and scrapers, and for signed links."""

Connection = ASGIConnection[Litestar, None, None, State]


async def require_key(connection: Connection, handler: BaseRouteHandler) -> None:
    """Identify the caller of every route that is not public, and the user that it acts for."""
    if handler.opt.get("public") or connection.scope.get("method") == "OPTIONS":
        return  # a browser asks with OPTIONS before it sends the key
    if (encoding := connection.headers.get("content-encoding", "identity")) != "identity":
        raise InvalidInputError(f"Content-Encoding {encoding!r} is not supported: send the body uncompressed")
    services: Services = connection.app.state.services
    caller = services.keys.identify(connection.headers.get("authorization"), connection.headers.get("x-api-key"))
    is_master.set(caller.is_master)
    user = user_named([*connection.query_params.getall("user_id", []), *connection.headers.getall("x-user-id", [])])
    repo = connection.path_params.get("repo")
    if user is None and repo is not None and caller.is_master:
        user = await services.catalog(repos.owner, repo)
    connection.state.caller = caller if user is None else act_as(caller, user, services.keys)


def require_master(connection: Connection, handler: BaseRouteHandler) -> None:
    """Refuse all keys except the master key. Runs after `require_key`."""
    if connection.scope.get("method") == "OPTIONS":
        return  # `require_key` identifies no caller then
    caller: Caller = connection.state.caller
    if not caller.is_master:
        raise ForbiddenError(f"This needs the master key; this key belongs to {caller.user!r}")


def caller(request: Request[None, None, State]) -> Caller:
    """Provides `dependencies.Caller`."""
    identified: Caller = request.state.caller
    return identified


def caller_if_known(services: Services, request: Request[None, None, State]) -> Caller | None:
    """The caller of a route that needs no key; None if no key was sent.

    Raises: UnauthorizedError for an unknown key.
    """
    authorization, api_key = request.headers.get("authorization"), request.headers.get("x-api-key")
    return None if authorization is None and api_key is None else services.keys.identify(authorization, api_key)
