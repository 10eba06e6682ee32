"""What is left to do after rows are gone: engine slots to free, folders to remove."""

import asyncio
import shutil

from litestar.background_tasks import BackgroundTask

from baker.repos import records
from baker.repos.catalog import Catalog
from baker.storage.home import job_folder
from baker.types import Checkpoint
from gateway.services import Services


async def remove_folders(services: Services, jobs: list[int]) -> None:
    """Remove the folders of these jobs. A job that stays as the record of a deleted bake keeps its metrics."""
    recorded = await services.catalog(_recorded)
    for number in jobs:
        folder = job_folder(services.home, number)
        if number in recorded:
            await asyncio.to_thread(records.strip, folder)
        else:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _recorded(catalog: Catalog) -> set[int]:
    return catalog.store.jobs.deleted_numbers()


def clean_up(services: Services, withdrawn: list[Checkpoint], jobs: list[int]) -> BackgroundTask:
    """After the answer: let what runs on the checkpoints end in its own time, and then remove the files.

    Checkpoints that are served again by then, because the deletion was undone, stay in the engine.
    """

    async def unload_and_remove() -> None:
        await services.registry.unload([each for each in withdrawn if not services.registry.serves(each)])
        await remove_folders(services, jobs)

    return BackgroundTask(unload_and_remove)
