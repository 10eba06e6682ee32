"""What pending jobs wait for: which of them can run now, which can never run, and what the others lack.

Blocks, like the catalog that it reads: see `storage/one_thread.py`.
"""

import logging
import sqlite3
import time
from typing import NamedTuple

from baker.errors import BakeryError, NotFoundError, StageError
from baker.jobs.awaited import settled
from baker.repos.catalog import Catalog
from baker.status import JobState, WaitingFor
from baker.storage.job import AnyJob, BakeJob

log = logging.getLogger(__name__)


class Sorted(NamedTuple):
    """The pending jobs that no longer wait for their inputs."""

    ready: list[AnyJob]
    """Jobs whose inputs are complete, oldest first."""
    failed: list[int]
    """Numbers of the jobs whose inputs will never be complete."""


def sort_pending(catalog: Catalog) -> Sorted:
    """Sorts the pending jobs, and fails those whose inputs failed or were removed. Writes the results of awaited bakes
    into the rows of the jobs that wait for them."""
    result = Sorted([], [])
    for job in catalog.store.jobs.in_state(JobState.PENDING):
        try:
            try:
                inputs = _inputs(catalog, job)
                # At once, although other inputs may be missing: from now on the result can't be deleted.
                known = settled(catalog, job)
            except BakeryError as error:  # StageError: also a row that this version can't decode
                log.warning("%s of %s/%s failed: %s", job.stage, job.repo, job.name, error.message)
                catalog.store.jobs.fail(job.id, error.message, error.code)
                result.failed.append(job.id)
                continue
        except sqlite3.Error as error:  # a full disk must not end the queue: the job stays pending
            log.warning("job %d: its row can't be written: %s", job.id, error)
            continue
        if all(row.state is JobState.COMPLETE for row in inputs):
            result.ready.append(known)
    return result


def waiting_for(catalog: Catalog, job: AnyJob) -> list[WaitingFor]:
    """The jobs that must end before this one can run."""
    reasons = []
    for number in job.depends_on:
        row = catalog.store.jobs.find(number)
        if row is None or not row.state.is_active:
            continue
        owner = "" if row.user == job.user else f"{row.user}/"
        what = f"{owner}{row.repo}/{row.name}"
        state = f"running, at {row.progress_percent:.0f} %" if row.state is JobState.RUNNING else "pending itself"
        reasons.append(WaitingFor(row.stage, what, f"It waits for the {row.stage} of {what!r}, which is {state}."))
    return reasons


def clocks(job: AnyJob) -> tuple[float | None, float | None]:
    """Seconds for which the job has not run since it was started, and for which it ran; None: by an older version."""
    if job.worked_seconds is None:
        return None, None
    now = time.time()
    running = job.worked_seconds + (0.0 if job.started is None else max(0.0, now - job.started))
    since_start = (now if job.finished is None else job.finished) - job.created
    return round(max(0.0, since_start - running), 1), round(running, 1)


def _inputs(catalog: Catalog, job: AnyJob) -> list[AnyJob]:
    """The jobs that the job depends on. Raises: NotFoundError if one was removed; StageError if one failed."""
    inputs = []
    for number in job.depends_on:
        row = catalog.store.jobs.find(number)
        if row is None or row.deleted is not None:
            bake = next((awaited.name for awaited in job.inputs.awaited if awaited.job == number), None)
            raise NotFoundError(
                f"the jobs that it needs were removed: [{number}]"
                if bake is None
                else f"bake {bake!r}, whose result it waited for, was deleted"
            )
        if row.state is JobState.FAILED:
            raise StageError(f"{_name(row, job)} failed: {row.error}")
        inputs.append(row)
    return inputs


def _name(row: AnyJob, seen_from: AnyJob) -> str:
    """What `row` is to a job that needs it."""
    if not isinstance(row, BakeJob):
        return f"the {row.stage} of target {row.name!r}"
    owner = "" if row.user == seen_from.user else f"{row.user}/"
    return f"bake '{owner}{row.repo}/{row.name}', whose result it waited for,"
