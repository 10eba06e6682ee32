"""Many items in one request: each is added on its own, so one that fails does not affect the others."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from baker.config.mistakes import Mistake, mistakes_error, shown
from baker.errors import BakeryError
from baker.ports import Sampler
from baker.repos import bakes, prompts, references, targets
from baker.repos.catalog import Catalog
from baker.repos.rendering import rendering_warnings
from baker.types import Prompt
from gateway.http.bodies import read_body
from gateway.protocol import requests, responses


class Item(NamedTuple):
    name: str
    put: Callable[[Catalog], list[str]]
    """Returns: warnings. Raises: BakeryError."""


def put_each(catalog: Catalog, user: str, repo: str, verb: str, items: Iterable[Item]) -> responses.Batch:
    """Add the items in order, so that a later one may use an earlier one as its template.

    Args: verb: of the one operation that this is.
    Raises: NotFoundError if there is no such repo.
    """
    catalog.repo(user, repo)
    created: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    log = catalog.history.log
    with catalog.store.transaction(), log.as_one(user, repo, verb):
        for name, put in items:
            try:
                with log.unless_it_fails():
                    created[name] = put(catalog)
            except BakeryError as error:
                failed[name] = error.message
    created = {name: warnings for name, warnings in created.items() if name not in failed}
    warnings = {name: warnings for name, warnings in created.items() if warnings}
    return responses.Batch(created=[*created], failed=failed, warnings=warnings or UNSET)


async def prompt_items(sampler: Sampler, user: str, repo: str, bodies: dict[str, Any]) -> list[Item]:
    """Args: bodies: name -> a list of messages, or an object with `messages` and `tools`."""

    async def item(name: str, body: Any) -> Item:
        await asyncio.sleep(0)  # other requests run between the items of a large batch
        try:
            given = read_body({"messages": body} if isinstance(body, list) else body, requests.PromptSet)
            prompt = Prompt(messages=given.messages, tools=given.tools)
            prompts.check(name, prompt)
            warnings = await rendering_warnings(sampler, prompt)
        except BakeryError as error:
            return Item(name, partial(_refuse, error))

        def put(catalog: Catalog) -> list[str]:
            existing = catalog.store.prompt(user, repo, name) if isinstance(body, list) else None
            # A plain list can't hold tools, so the prompt keeps those that it has.
            value = prompt if existing is None else msgspec.structs.replace(prompt, tools=existing.tools)
            prompts.put(catalog, user, repo, name, value, may_change=True)
            return warnings

        return Item(name, put)

    return [await item(name, body) for name, body in bodies.items()]


def _refuse(error: BakeryError, _: Catalog) -> list[str]:
    raise error


def target_items(user: str, repo: str, bodies: Sequence[dict[str, Any]], *, may_change: bool) -> list[Item]:
    """Raises: ConfigError for items without a name, since their failure could not be reported."""

    def put(catalog: Catalog, name: str, body: dict[str, Any]) -> list[str]:
        given = read_body(body, requests.TargetCreate)
        overrides = given.overrides or {}
        done = targets.put(catalog, user, repo, name, given.template, overrides, may_change=may_change)
        return references.target_warnings(catalog, user, repo, done.value)

    return [Item(name, partial(put, name=name, body=body)) for name, body in _named("target", bodies)]


def bake_items(
    user: str, repo: str, bodies: Sequence[dict[str, Any]], max_rank: int | None, *, may_change: bool
) -> list[Item]:
    """Raises: see `target_items`."""

    def put(catalog: Catalog, name: str, body: dict[str, Any]) -> list[str]:
        given = read_body(body, requests.BakeCreate)
        overrides = given.overrides or {}
        done = bakes.put(catalog, user, repo, name, given.template, overrides, may_change=may_change, max_rank=max_rank)
        return references.bake_warnings(catalog, user, done.value)

    return [Item(name, partial(put, name=name, body=body)) for name, body in _named("bake", bodies)]


def _named(what: str, bodies: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The bodies by their names. Raises: ConfigError."""
    field = f"{what}_name"
    nameless = [
        Mistake((f"{what}s", str(index), field), f"must be a string, got {shown(body.get(field))}")
        for index, body in enumerate(bodies)
        if not isinstance(body.get(field), str)
    ]
    if nameless:
        raise mistakes_error(nameless)
    return [(body[field], body) for body in bodies]
