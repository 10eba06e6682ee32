"""Undo and redo on the running service. Requests in flight finish on the checkpoint that they started with.

Order of effects: the engine loads the checkpoints that names will mean, the rows change, the names in memory change.
"""

import asyncio
from weakref import WeakValueDictionary

from baker.errors import BakeryError
from baker.history.operation_table import Operation
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint
from baker.versions import undo
from gateway.serving.registry import Registry


class Undo:
    def __init__(self, catalog: OneThread[Catalog], registry: Registry) -> None:
        self._catalog, self._registry = catalog, registry
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        """User and repo -> its turn: two clients that undo at once take back one operation each."""
        self._unloading: set[asyncio.Task[None]] = set()

    async def step(self, user: str, repo: str, verb: str, number: int | None = None) -> list[Operation]:
        """Take operations back (`undo`) or bring them back (`redo`), up to the one of that number (None: one).

        Returns: the new operations, oldest first. Raises: NotFoundError; ConflictError; AdapterError; EngineError.
        """
        async with self._locks.setdefault((user, repo), asyncio.Lock()):
            planned = await self._catalog(undo.plan, user, repo, verb, number)
            for checkpoint in planned.checkpoints:
                await self._registry.gate.prepare(checkpoint)
            try:
                done = await self._catalog(undo.apply, planned)
            except BakeryError:
                self._unload_soon(planned.checkpoints)
                raise
            # Nothing is awaited in between, so the pointers move in the same order as the rows.
            gone = [
                checkpoint
                for meaning in done.meanings
                for checkpoint in self._registry.replace(
                    user, repo, meaning.bake, meaning.newest_first, meaning.latest_moved_first
                )
            ]
            self._registry.show(done.view)
            self._unload_soon(gone)
        return done.operations

    def _unload_soon(self, checkpoints: list[Checkpoint]) -> None:
        """Free the slots of checkpoints that nothing serves, when the requests on them have ended."""
        unserved = [each for each in checkpoints if not self._registry.serves(each)]
        if unserved:
            task = asyncio.create_task(self._registry.unload(unserved))
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)
