"""Repos and their prompts."""

import asyncio
from typing import Annotated

from litestar import Response, Router, delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from baker import types
from baker.repos import prompts, repos
from baker.repos.catalog import Catalog
from baker.repos.rendering import rendering_warnings
from gateway.protocol import requests, responses
from gateway.routes.bread import batches, views
from gateway.routes.cleanup import clean_up
from gateway.routes.dependencies import Caller, Services

Offset = Annotated[int, QueryParameter(ge=0)]
Limit = Annotated[int | None, QueryParameter(ge=1)]


@get("/")
async def list_repos(
    services: Services,
    caller: Caller,
    include_metadata: FromQuery[bool] = False,
    offset: Offset = 0,
    limit: Limit = None,
) -> responses.RepoList | responses.RepoPage:
    """The caller's repos. With `include_metadata`, in pages with all their fields; else all names at once."""
    rows = [views.repo(repo) for repo in await services.catalog(repos.listing, caller.user)]
    if not include_metadata:
        return responses.RepoList(repos=[row.repo_name for row in rows], items=rows)
    page = rows[offset:] if limit is None else rows[offset : offset + limit]
    return responses.RepoPage(
        repos=page,
        offset=offset,
        limit=max(1, len(rows)) if limit is None else limit,
        has_more=offset + len(page) < len(rows),
        total=len(rows),
        items=page,
    )


@post("/")
async def create_repo(services: Services, caller: Caller, data: JSONBody[requests.RepoPut]) -> Response[responses.Repo]:
    """Create a repo: 201, or 200 if it exists with the same base model; with another base model it is 409."""
    result = await services.catalog(repos.put, caller.user, data.repo_name, data.base_model)
    return Response(views.repo(result.value), status_code=201 if result.is_new else 200)


@put("/")
async def set_repo(services: Services, caller: Caller, data: JSONBody[requests.RepoPut]) -> responses.Repo:
    """Create a repo, or return it if it exists with the same base model; with another base model it is 409."""
    result = await services.catalog(repos.put, caller.user, data.repo_name, data.base_model)
    return views.repo(result.value)


@get("/{repo:str}")
async def get_repo(services: Services, caller: Caller, repo: FromPath[str]) -> responses.Repo:
    """One repo, with its base model."""
    return views.repo(await services.catalog(Catalog.repo, caller.user, repo))


@delete("/{repo:str}", status_code=200)
async def delete_repo(services: Services, caller: Caller, repo: FromPath[str]) -> Response[responses.Deleted]:
    """Remove the repo and all in it, for good: nothing brings it back. Its model names stop working at once; files go
    later."""
    removed = await services.catalog(repos.delete, caller.user, repo)
    withdrawn = services.registry.withdraw(caller.user, repo)
    await asyncio.to_thread(services.uploads.discard, caller.user, repo)
    return Response(
        responses.Deleted(message=f"Repo {repo!r} deleted", undoable=False),
        background=clean_up(services, withdrawn, removed),
    )


@get("/{repo:str}/prompts")
async def list_prompts(services: Services, caller: Caller, repo: FromPath[str]) -> responses.PromptList:
    """The prompts of the repo."""
    names = await services.catalog(Catalog.names, "prompts", caller.user, repo)
    return responses.PromptList(prompts=names, items=[responses.PromptItem(prompt_name=name) for name in names])


@post("/{repo:str}/prompts")
async def create_prompt(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.PromptCreate]
) -> Response[responses.Prompt]:
    """Create a prompt: 201, or 200 if it exists with the same content; with other content it is 409."""
    value = types.Prompt(messages=data.messages, tools=data.tools)
    prompts.check(data.prompt_name, value)
    warnings = await rendering_warnings(services.engine.generation, value)
    result = await services.catalog(prompts.put, caller.user, repo, data.prompt_name, value, may_change=False)
    return Response(views.prompt(data.prompt_name, result.value, warnings), status_code=201 if result.is_new else 200)


@put("/{repo:str}/prompts/{prompt:str}")
async def set_prompt(
    services: Services, caller: Caller, repo: FromPath[str], prompt: FromPath[str], data: JSONBody[requests.PromptSet]
) -> responses.Prompt:
    """Create or change a prompt. Jobs that were already started keep the old text."""
    value = types.Prompt(messages=data.messages, tools=data.tools)
    prompts.check(prompt, value)
    warnings = await rendering_warnings(services.engine.generation, value)
    result = await services.catalog(prompts.put, caller.user, repo, prompt, value, may_change=True)
    return views.prompt(prompt, result.value, warnings)


@post("/{repo:str}/prompts/batch", status_code=200)
async def create_prompts(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.PromptBatch]
) -> responses.Batch:
    """Add prompts, or change them. Those that fail are listed with the reason."""
    items = await batches.prompt_items(services.engine.generation, caller.user, repo, data.prompts)
    return await services.catalog(batches.put_each, caller.user, repo, "put-prompt", items)


@put("/{repo:str}/prompts/batch")
async def set_prompts(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[requests.PromptBatch]
) -> responses.Batch:
    """Add prompts, or change them. Those that fail are listed with the reason."""
    items = await batches.prompt_items(services.engine.generation, caller.user, repo, data.prompts)
    return await services.catalog(batches.put_each, caller.user, repo, "put-prompt", items)


@get("/{repo:str}/prompts/{prompt:str}")
async def get_prompt(
    services: Services, caller: Caller, repo: FromPath[str], prompt: FromPath[str]
) -> responses.Prompt:
    """One prompt, with its messages and tools."""
    return views.prompt(prompt, await services.catalog(prompts.get, caller.user, repo, prompt))


@delete("/{repo:str}/prompts/{prompt:str}", status_code=200)
async def delete_prompt(
    services: Services, caller: Caller, repo: FromPath[str], prompt: FromPath[str], prune: FromQuery[bool] = False
) -> responses.Deleted:
    """Remove a prompt; 409 while an active job of a target uses it. `POST /undo` brings it back; with `prune`, nothing
    does, and its text is removed from the log of operations too."""
    deletion = await services.catalog(prompts.delete, caller.user, repo, prompt, prune=prune)
    return views.deleted(f"Prompt {prompt!r} deleted", deletion)


ROUTER = Router(
    "/v1/repo",
    route_handlers=[
        list_repos,
        create_repo,
        set_repo,
        get_repo,
        delete_repo,
        list_prompts,
        create_prompt,
        set_prompt,
        create_prompts,
        set_prompts,
        get_prompt,
        delete_prompt,
    ],
    tags=["repos"],
)
