"""Removes files: those of deletions that can't be undone any more, those that garbage collection removes, and uploads
that no commit took."""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from baker.errors import BakeryError, disk_error
from baker.repos import records, recycle_bin
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.storage.bin_table import Binned
from baker.storage.home import job_folder
from baker.storage.one_thread import OneThread
from baker.transfer.uploads import Uploads
from baker.versions import gc
from baker.versions.gc import Unreachable
from gateway.serving.registry import Registry

log = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0


class Rubbish(msgspec.Struct, frozen=True):
    """A version that nothing reaches."""

    version: Unreachable
    size: int
    """Bytes that its files take; 0 if they are not here."""


class BinItem(msgspec.Struct, frozen=True):
    """A deleted bake, target or version that can be brought back."""

    job: Binned
    size: int


class RecycleBin:
    def __init__(self, home: Path, catalog: OneThread[Catalog], registry: Registry, uploads: Uploads) -> None:
        self._home, self._catalog, self._registry, self._uploads = home, catalog, registry, uploads

    async def run(self) -> None:
        """Sweep the bin now and every day, until cancelled."""
        while True:
            try:
                await self.sweep()
            except BakeryError as error:
                log.warning("the bin was not swept: %s", error.message)
            except Exception:
                log.exception("the bin was not swept")
            await asyncio.sleep(DAY_SECONDS)

    async def sweep(self) -> None:
        """Remove what can't be brought back any more, and uploads that no commit took, of all users."""
        await asyncio.to_thread(self._uploads.sweep)
        await self._remove(await self._catalog(recycle_bin.sweep))

    async def contents(self, user: str, repo: str) -> list[BinItem]:
        """What the repo has in the bin, oldest operation first."""
        binned = await self._catalog(lambda catalog: catalog.store.bin.of_repo(user, repo))
        return [BinItem(each, await self._size([each.job])) for each in binned]

    async def unreachable(self, user: str, repo: str) -> list[Rubbish]:
        """Versions that nothing reaches, oldest first. Raises: NotFoundError."""
        versions = await self._catalog(gc.unreachable, user, repo)
        return [
            Rubbish(each, 0 if each.checkpoint is None else await self._size([each.checkpoint.job_id]))
            for each in versions
        ]

    async def collect(self, user: str, repo: str, *, prune: bool) -> int:
        """Take what is unreachable to the bin; with `prune`, remove it and all that the repo has in the bin.

        Returns: the bytes that were freed. Raises: NotFoundError; DiskError.
        """
        collected = await self._catalog(gc.collect, user, repo, prune=prune)
        for checkpoint in collected.checkpoints:
            self._registry.withdraw(user, repo, checkpoint.bake)
        self._registry.show(await self._catalog(repo_view, user, repo))
        await self._registry.unload([each for each in collected.checkpoints if not self._registry.serves(each)])
        before = await self._size(collected.removed)
        await self._remove(collected.removed)
        return before - await self._size(collected.removed)

    async def _remove(self, jobs: list[int]) -> None:
        """Remove the jobs' files, but for the metrics of those that stay as records. Raises: DiskError."""
        recorded = await self._catalog(lambda catalog: catalog.store.jobs.deleted_numbers())
        for number in jobs:
            folder = job_folder(self._home, number)
            try:
                if number in recorded:
                    await asyncio.to_thread(records.strip, folder)
                elif folder.exists():
                    await asyncio.to_thread(shutil.rmtree, folder)
            except OSError as error:
                raise disk_error(error) from error

    async def _size(self, jobs: Iterable[int]) -> int:
        return await asyncio.to_thread(lambda: sum(size_of(job_folder(self._home, job)) for job in jobs))


def size_of(folder: Path) -> int:
    """Bytes that removing the folder frees. Files that have another name too, as trajectories may, count 0."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = (Path(place) / name).lstat()
                total += status.st_size if status.st_nlink == 1 else 0
    return total
