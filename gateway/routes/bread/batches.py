"""Many items in one request: each is added on its own, so one that fails does not affect the others."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from baker.config.mistakes import Mistake, mistakes_error, shown
from baker.errors import BakeryError
from baker.repos import bakes, prompts, targets
from baker.repos.catalog import Catalog, Put
from baker.types import Prompt
from gateway.http.bodies import read_body
from gateway.protocol import requests, responses


class Item(NamedTuple):
    name: str
    put: Callable[[Catalog], object]
    """Raises: BakeryError."""


def put_each(catalog: Catalog, user: str, repo: str, items: Iterable[Item]) -> responses.Batch:
    """Add the items in order, so that a later one may use an earlier one as its template.

    Raises: NotFoundError if there is no such repo.
    """
    catalog.repo(user, repo)
    created: dict[str, None] = {}
    failed: dict[str, str] = {}
    for name, put in items:
        try:
            put(catalog)
        except BakeryError as error:
            failed[name] = error.message
        else:
            created[name] = None
    return responses.Batch(created=[name for name in created if name not in failed], failed=failed)


def prompt_items(user: str, repo: str, bodies: dict[str, Any]) -> list[Item]:
    """Args: bodies: name -> a list of messages, or an object with `messages` and `tools`."""

    def item(name: str, body: Any) -> Item:
        def put(catalog: Catalog) -> object:
            if isinstance(body, list):
                existing = catalog.store.prompt(user, repo, name)
                messages = read_body({"messages": body}, requests.PromptSet).messages
                # A plain list can't hold tools, so the prompt keeps those that it has.
                value = Prompt(messages=messages, tools=None if existing is None else existing.tools)
            else:
                given = read_body(body, requests.PromptSet)
                value = Prompt(messages=given.messages, tools=given.tools)
            return prompts.put(catalog, user, repo, name, value, may_change=True)

        return Item(name, put)

    return [item(name, body) for name, body in bodies.items()]


def config_items(
    user: str, repo: str, what: Literal["target", "bake"], bodies: Sequence[dict[str, Any]], *, may_change: bool
) -> list[Item]:
    """Targets or bakes. Raises: ConfigError for items without a name, since their failure could not be reported."""
    kind, put = _CONFIGS[what]
    names = [body.get(f"{what}_name") for body in bodies]
    nameless = [
        Mistake((f"{what}s", str(index), f"{what}_name"), f"must be a string, got {shown(name)}")
        for index, name in enumerate(names)
        if not isinstance(name, str)
    ]
    if nameless:
        raise mistakes_error(nameless)

    def item(name: str, body: dict[str, Any]) -> Item:
        def put_one(catalog: Catalog) -> object:
            given = read_body(body, kind)
            return put(catalog, user, repo, name, given.template, given.overrides or {}, may_change=may_change)

        return Item(name, put_one)

    return [item(str(name), body) for name, body in zip(names, bodies, strict=True)]


_CONFIGS: dict[str, tuple[type[requests.ConfigSet], Callable[..., Put]]] = {
    "target": (requests.TargetCreate, targets.put),
    "bake": (requests.BakeCreate, bakes.put),
}
