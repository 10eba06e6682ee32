"""Finished comparisons: each is computed once and then read from the store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec

from baker.comparison.versions import Version
from baker.history.commit import content_id
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread

FORMAT = 1
"""Part of every key. Raise it when a result is computed in another way, so that no older one is returned."""

Result = TypeVar("Result", bound=msgspec.Struct)


class Pair(msgspec.Struct, frozen=True):
    """Two versions in a repo, which are compared in this order."""

    user: str
    repo: str
    a: Version
    b: Version


class Results:
    def __init__(self, catalog: OneThread[Catalog]) -> None:
        self._catalog = catalog
        self._locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    async def once(
        self, pair: Pair, what: str, settings: Any, kind: type[Result], compute: Callable[[], Awaitable[Result]]
    ) -> Result:
        """The stored result, or a new one, which is stored when it is complete. Clients that ask at the same time share
        the work; if the one that does it leaves, the next one starts over.

        Args:
            what: name of the part of a comparison.
            settings: JSON of all that the result depends on besides the versions.
        """
        key = content_id([FORMAT, what, pair.a.id, pair.b.id, settings])
        lock = self._locks.setdefault((pair.user, pair.repo, key), asyncio.Lock())
        async with lock:
            stored = await self._catalog(_find, pair, key)
            if stored is None:
                stored = await self._catalog(_keep, pair, key, msgspec.to_builtins(await compute()))
            return msgspec.convert(stored, kind)


def _find(catalog: Catalog, pair: Pair, key: str) -> Any:
    return catalog.history.comparisons.find(pair.user, pair.repo, key)


def _keep(catalog: Catalog, pair: Pair, key: str, result: Any) -> Any:
    """Raises: NotFoundError if the repo was deleted meanwhile: nothing of it may be kept."""
    with catalog.store.transaction():
        catalog.repo(pair.user, pair.repo)
        ids = pair.a.id, pair.b.id
        return catalog.history.comparisons.keep(pair.user, pair.repo, key, *ids, result)
