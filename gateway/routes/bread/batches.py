"""Many items in one request: each is added on its own, so one that fails does not affect the others."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from baker.config.overrides import config_error
from baker.errors import BakeryError, ConfigError
from baker.repos import bakes, prompts, targets
from baker.repos.catalog import Catalog, Put
from baker.types import Prompt
from gateway.protocol import requests, responses

Body = TypeVar("Body", bound=requests.Body)


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


def _read(body: Any, kind: type[Body]) -> Body:
    """Raises: ConfigError if the body does not have the form of `kind`."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise config_error(error, ("body",), body) from error


def prompt_items(user: str, repo: str, bodies: dict[str, Any]) -> list[Item]:
    """Args: bodies: name -> a list of messages, or an object with `messages` and `tools`."""

    def item(name: str, body: Any) -> Item:
        def put(catalog: Catalog) -> object:
            if isinstance(body, list):
                existing = catalog.store.prompt(user, repo, name)
                messages = _read({"messages": body}, requests.PromptSet).messages
                # A plain list can't hold tools, so the prompt keeps those that it has.
                value = Prompt(messages=messages, tools=None if existing is None else existing.tools)
            else:
                given = _read(body, requests.PromptSet)
                value = Prompt(messages=given.messages, tools=given.tools)
            return prompts.put(catalog, user, repo, name, value, may_change=True)

        return Item(name, put)

    return [item(name, body) for name, body in bodies.items()]


def config_items(
    user: str, repo: str, what: Literal["target", "bake"], bodies: Sequence[dict[str, Any]], *, may_change: bool
) -> list[Item]:
    """Targets or bakes. Raises: ConfigError for an item without a name, since its failure could not be reported."""
    kind, put = _CONFIGS[what]

    def item(index: int, body: dict[str, Any]) -> Item:
        name = body.get(f"{what}_name")
        if not isinstance(name, str):
            where = ("body", f"{what}s", index, f"{what}_name")
            text = f"{what}s[{index}].{what}_name must be a string, got {name!r}"
            raise ConfigError(text, detail=[{"loc": list(where), "msg": text, "type": "value_error"}])

        def put_one(catalog: Catalog) -> object:
            given = _read(body, kind)
            return put(catalog, user, repo, name, given.template, given.overrides or {}, may_change=may_change)

        return Item(name, put_one)

    return [item(index, body) for index, body in enumerate(bodies)]


_CONFIGS: dict[str, tuple[type[requests.ConfigSet], Callable[..., Put]]] = {
    "target": (requests.TargetCreate, targets.put),
    "bake": (requests.BakeCreate, bakes.put),
}
