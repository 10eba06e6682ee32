"""Moves a bake's name by hand. Requests in flight finish on the checkpoint that they started with.

Order of effects: the engine loads the chosen checkpoint, the move is stored, the pointer moves.
"""

from baker.errors import NotFoundError
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.types import MovedBy
from baker.versions import promotion
from baker.versions.promotion import Choice
from gateway.serving.registry import Registry


class Promotion:
    def __init__(self, catalog: OneThread[Catalog], registry: Registry) -> None:
        self._catalog, self._registry = catalog, registry

    async def promote(self, user: str, repo: str, bake: str, step: int) -> None:
        """Point `repo/bake` to that checkpoint. Raises: NotFoundError; AdapterError; EngineError."""
        await self._move(await self._catalog(promotion.named, user, repo, bake, step), MovedBy.PROMOTE)

    async def roll_back(self, user: str, repo: str, bake: str) -> None:
        """Point `repo/bake` back to where it pointed before.

        Raises: as `promote`; ConflictError if it pointed to nothing before.
        """
        await self._move(await self._catalog(promotion.before, user, repo, bake), MovedBy.ROLLBACK)

    async def _move(self, choice: Choice, by: MovedBy) -> None:
        checkpoint = choice.checkpoint
        if choice.is_live:
            return
        await self._registry.gate.prepare(checkpoint)
        try:
            view = await self._catalog(promotion.move, checkpoint, by)
        except NotFoundError:
            await self._registry.unload([checkpoint])
            raise
        # Nothing is awaited in between, so the pointers move in the same order as the rows.
        self._registry.publish(checkpoint)
        self._registry.show(view)
