"""Which checkpoints a bake has while it is made: rows that come, give way, or are pruned.

Functions over the catalog, each one transaction; they block (see `threads.OneThread`). Those that remove rows return
what the rows were of: it may still be answering, and its files are the caller's to remove.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.storage.job import BakeJob, Job
from baker.types import Checkpoint


def of_job(catalog: Catalog, job: Job) -> list[Checkpoint]:
    """Those that this run of the bake made, newest first."""
    known = bakes.checkpoints(catalog, job.user, job.repo, job.name)
    return [checkpoint for checkpoint in known if checkpoint.job_id == job.id]


def trained_steps(checkpoint: Checkpoint) -> int:
    """The optimizer steps behind it, which its number may exceed: see `numbers`."""
    return int(checkpoint.path.name)


def numbers(catalog: Catalog, job: Job, folders: Sequence[Path]) -> list[int]:
    """What to call the run's checkpoints in these folders: as a rule by the steps behind them.

    What the bake's name means and what another job works on must not be lost to a namesake that may yet be refused:
    where an earlier run left such a one, the next free number is taken.
    """
    own = {checkpoint.path: checkpoint.step for checkpoint in of_job(catalog, job)}
    taken = {checkpoint.step for checkpoint in _kept(catalog, job, moves=1)} | set(own.values())
    found = []
    for folder in folders:
        number = own.get(folder, int(folder.name))
        while folder not in own and number in taken:
            number += 1
        taken.add(number)
        found.append(number)
    return found


def keep(
    catalog: Catalog, job: Job, checkpoints: list[Checkpoint], moving: list[Checkpoint], /, **changes: Any
) -> list[Checkpoint]:
    """Add the checkpoints, and change the job's columns with them.

    Args: moving: those that the bake's name is to move to, in this order.
    Returns: those that it moved to: not to one that was known from before an interruption, since it may have been
        moved on by hand meanwhile.
    """
    with catalog.store.transaction():
        known = {checkpoint.path for checkpoint in of_job(catalog, job)}
        new = [checkpoint for checkpoint in checkpoints if checkpoint.path not in known]
        for checkpoint in new:
            catalog.store.checkpoints.add(checkpoint, moves_name=checkpoint in moving)
        if changes:
            catalog.store.jobs.update(job.id, **changes)
        return [checkpoint for checkpoint in new if checkpoint in moving]


def prune(catalog: Catalog, job: Job, limit: int) -> list[Checkpoint]:
    """All but the newest `limit` of the run's, except for what the bake's name means or another job works on."""
    with catalog.store.transaction():
        live = bakes.find_checkpoint(catalog, job.user, job.repo, job.name, None)
        in_use = bakes.checkpoints_in_use(catalog)
        older = of_job(catalog, job)[limit:]
        return _remove(catalog, [known for known in older if known != live and known.name not in in_use])


def remove_of_job(catalog: Catalog, job: Job) -> list[Checkpoint]:
    return _remove_where(catalog, job, lambda known: known.job_id == job.id)


def remove_of_other_jobs(catalog: Catalog, job: Job, result: Checkpoint) -> list[Checkpoint]:
    """What earlier runs of the bake left, except for what another job works on, and what its name means or meant
    before: a rollback leads there, unless the run's result is not one that a name can lead back from."""
    kept = _kept(catalog, job, moves=2 if result.is_served else 1)
    return _remove_where(catalog, job, lambda known: known.job_id != job.id and known not in kept)


def remove_namesakes(catalog: Catalog, job: Job, checkpoint: Checkpoint) -> list[Checkpoint]:
    """One of another run that has this checkpoint's name."""
    return _remove_where(catalog, job, lambda known: known.name == checkpoint.name and known.job_id != job.id)


def hand_over(catalog: Catalog, before: BakeJob, job: BakeJob) -> None:
    """Make the checkpoints of one run of a bake another's, which goes on where that one ended."""
    with catalog.store.transaction():
        catalog.store.checkpoints.hand_over(before.id, job.id)
        catalog.store.jobs.update(job.id, loss=before.loss, progress_percent=before.progress_percent)


def _kept(catalog: Catalog, job: Job, moves: int) -> list[Checkpoint]:
    """Those of the bake that another job works on, or that its name means; `moves` 2: or meant before."""
    meant = [move.checkpoint for move in catalog.store.checkpoints.moves(job.user, job.repo, job.name)[:moves]]
    in_use = bakes.checkpoints_in_use(catalog)
    known = bakes.checkpoints(catalog, job.user, job.repo, job.name)
    return [checkpoint for checkpoint in known if checkpoint in meant or checkpoint.name in in_use]


def _remove_where(catalog: Catalog, job: Job, test: Callable[[Checkpoint], bool]) -> list[Checkpoint]:
    with catalog.store.transaction():
        known = bakes.checkpoints(catalog, job.user, job.repo, job.name)
        return _remove(catalog, [checkpoint for checkpoint in known if test(checkpoint)])


def _remove(catalog: Catalog, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    for checkpoint in checkpoints:
        catalog.store.checkpoints.remove(checkpoint)
    return checkpoints
