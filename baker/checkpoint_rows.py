"""Which checkpoints a bake has while it is made: rows that come, give way, or are pruned.

Functions over the catalog, each one transaction; they block (see `threads.OneThread`). Those that remove rows return
what the rows were of: it may still be answering, and its files are the caller's to remove.
"""

from collections.abc import Callable
from typing import Any

from baker.catalog import Catalog
from baker.types import Checkpoint, Job


def of_job(catalog: Catalog, job: Job) -> list[Checkpoint]:
    """Those that this run of the bake made, newest first."""
    known = catalog.checkpoints(job.user, job.repo, job.name)
    return [checkpoint for checkpoint in known if checkpoint.job_id == job.id]


def keep(catalog: Catalog, job: Job, checkpoints: list[Checkpoint], /, **changes: Any) -> None:
    """Add the checkpoints, and change the job's columns with them."""
    with catalog.store.transaction():
        for checkpoint in checkpoints:
            catalog.store.add_checkpoint(checkpoint)
        if changes:
            catalog.store.update_job(job.id, **changes)


def prune(catalog: Catalog, job: Job, limit: int) -> list[Checkpoint]:
    """All but the newest `limit` of the run's, except for what another job works on."""
    with catalog.store.transaction():
        in_use = catalog.checkpoints_in_use()
        going = [checkpoint for checkpoint in of_job(catalog, job)[limit:] if checkpoint.name not in in_use]
        return _remove(catalog, going)


def remove_of_job(catalog: Catalog, job: Job) -> list[Checkpoint]:
    return _remove_where(catalog, job.user, job.repo, job.name, lambda known: known.job_id == job.id)


def remove_of_other_jobs(catalog: Catalog, job: Job) -> list[Checkpoint]:
    """What earlier runs of the bake left, except for what another job works on."""
    in_use = catalog.checkpoints_in_use()
    return _remove_where(
        catalog, job.user, job.repo, job.name, lambda known: known.job_id != job.id and known.name not in in_use
    )


def remove_namesakes(catalog: Catalog, checkpoint: Checkpoint) -> list[Checkpoint]:
    """One of another run that has this checkpoint's name."""
    return _remove_where(
        catalog,
        checkpoint.user,
        checkpoint.repo,
        checkpoint.bake,
        lambda known: known.name == checkpoint.name and known.job_id != checkpoint.job_id,
    )


def hand_over(catalog: Catalog, before: Job, job: Job) -> None:
    """Make the checkpoints of one run of a bake another's, which goes on where that one ended."""
    with catalog.store.transaction():
        catalog.store.hand_over_checkpoints(before.id, job.id)
        catalog.store.update_job(job.id, loss=before.loss, progress_percent=before.progress_percent)


def _remove_where(
    catalog: Catalog, user: str, repo: str, bake: str, test: Callable[[Checkpoint], bool]
) -> list[Checkpoint]:
    with catalog.store.transaction():
        return _remove(catalog, [known for known in catalog.checkpoints(user, repo, bake) if test(known)])


def _remove(catalog: Catalog, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    for checkpoint in checkpoints:
        catalog.store.remove_checkpoint(checkpoint)
    return checkpoints
