"""Users and their keys, and a coordinator's callbacks. Only the master key may use these routes."""

import asyncio
import time

from litestar import Response, Router, delete, get, post
from litestar.params import FromPath, JSONBody

from baker.errors import ConflictError
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.types import User
from gateway.protocol import requests, responses
from gateway.routes.bread import views
from gateway.routes.cleanup import clean_up
from gateway.routes.dependencies import Services
from gateway.routes.guards import require_master


@post("/users", status_code=200)
async def create_user(services: Services, data: JSONBody[requests.UserCreate]) -> responses.UserCreated:
    """Add a user with a first key. Repeating the request changes nothing and returns no key."""
    user = User(id=data.user_id, alias=data.user_alias, email=data.user_email, created=int(time.time()))
    return views.user_created(user, await services.accounts.add(user, data.password))


@get("/users")
async def list_users(services: Services) -> responses.UserList:
    """All users, with the ids of their keys."""
    return responses.UserList(users=[views.user(*known) for known in await services.accounts.listing()])


@delete("/users/{user:str}", status_code=200)
async def delete_user(services: Services, user: FromPath[str]) -> Response[responses.Deleted]:
    """Remove the user with all keys, repos and models, for good. Keys and model names stop working at once; files go
    later."""
    removed = await services.accounts.remove(user)
    withdrawn = services.registry.withdraw(user)
    await asyncio.to_thread(services.uploads.discard, user)
    return Response(
        responses.Deleted(message=f"User {user!r} deleted", undoable=False),
        background=clean_up(services, withdrawn, removed),
    )


@post("/users/{user:str}/keys", status_code=200)
async def create_key(services: Services, user: FromPath[str]) -> responses.KeyCreated:
    """Add a key. To rotate keys, create a new one, then delete the old one."""
    key, text = await services.accounts.add_key(user)
    return responses.KeyCreated(user_id=user, key_id=key.id, api_key=text)


@delete("/users/{user:str}/keys/{key:str}", status_code=200)
async def delete_key(services: Services, user: FromPath[str], key: FromPath[str]) -> responses.Deleted:
    """Make a key invalid at once."""
    await services.accounts.remove_key(user, key)
    return responses.Deleted(message=f"Key {key!r} of user {user!r} revoked")


@post("/done_job", status_code=200)
async def done_job(services: Services, data: JSONBody[requests.JobDone]) -> responses.Ok:
    """For coordinators that push results into a repo. No effect: this service runs its jobs itself."""
    await services.catalog(_check_repo, data.user, data.repo)
    return responses.Ok()


@post("/model_ready", status_code=200)
async def model_ready(services: Services, data: JSONBody[requests.ModelReady]) -> responses.Ok:
    """For coordinators that train elsewhere. No effect: a bake of this service is served as soon as it is complete."""
    await services.catalog(_check_is_served, data.user, data.repo, data.bake_name)
    return responses.Ok()


def _check_repo(catalog: Catalog, user: str, repo: str) -> None:
    catalog.check_user(user)
    catalog.repo(user, repo)


def _check_is_served(catalog: Catalog, user: str, repo: str, bake: str) -> None:
    _check_repo(catalog, user, repo)
    bakes.get(catalog, user, repo, bake)
    if not any(checkpoint.is_served for checkpoint in bakes.checkpoints(catalog, user, repo, bake)):
        raise ConflictError(f"Bake {bake!r} has no finished checkpoint: run it, and wait until it is complete")


ROUTER = Router(
    "/v1/admin",
    route_handlers=[create_user, list_users, delete_user, create_key, delete_key, done_job, model_ready],
    guards=[require_master],
    tags=["admin"],
)
