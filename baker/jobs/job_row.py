"""A running job's row: its progress, and its warnings."""

import logging
import sqlite3
from typing import Any

from baker.repos.catalog import Catalog
from baker.status import Pace
from baker.storage.one_thread import OneThread

log = logging.getLogger(__name__)


class JobRow:
    def __init__(self, catalog: OneThread[Catalog], job_id: int, paces: dict[int, Pace] | None = None) -> None:
        """Args: paces: number of each running job -> its pace; the job's own is added."""
        self._catalog, self._job_id = catalog, job_id
        self._paces = {} if paces is None else paces

    def show(self, count: int, total: int) -> None:
        """Show this number of items, which need not be on disk yet."""
        if (pace := self._paces.get(self._job_id)) is None:
            self._paces[self._job_id] = Pace(count, total)
        else:
            pace.update(count, total)

    async def set_progress(self, count: int, total: int, **changes: Any) -> None:
        """Args: count: number of items that are finished and on disk. changes: other columns."""
        self.show(count, total)
        percent = round(100.0 * count / total, 1) if total else 0.0
        await self._catalog(Catalog.update_job, self._job_id, lines=count, progress_percent=percent, **changes)

    async def note(self, **changes: Any) -> None:
        """Set columns that show how far the job is. A full disk is only logged: it must not end the job."""
        try:
            await self._catalog(Catalog.update_job, self._job_id, **changes)
        except sqlite3.Error as error:
            log.warning("job %d: its progress can't be written: %s", self._job_id, error)

    async def warn(self, message: str) -> None:
        """Add a warning; one that is already there, from before an interruption, is not repeated."""
        await self._catalog(_add_warning, self._job_id, message)


def _add_warning(catalog: Catalog, job_id: int, message: str) -> None:
    with catalog.store.transaction():
        job = catalog.store.jobs.find(job_id)
        if job is not None and message not in job.warnings:
            catalog.store.jobs.update(job_id, warnings=[*job.warnings, message])
