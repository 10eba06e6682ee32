"""Adds and removes the rows of a bake's checkpoints.

Functions over the catalog, each one transaction; they block (see `storage/one_thread.py`). Those that remove rows
return the removed checkpoints: requests may still use them, so the caller removes their files later.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from baker.history.revisions import RepoView
from baker.repos import bakes, pointers, records
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.status import Loss
from baker.storage.job import BakeJob, Job
from baker.types import Checkpoint, MovedBy
from baker.versions import commits, refs


def _bake(job: Job) -> tuple[str, str, str]:
    return job.user, job.repo, job.name


def of_job(catalog: Catalog, job: Job) -> list[Checkpoint]:
    """Checkpoints of this run of the bake, newest first."""
    known = bakes.checkpoints(catalog, job.user, job.repo, job.name)
    return [checkpoint for checkpoint in known if checkpoint.job_id == job.id]


def trained_steps(checkpoint: Checkpoint) -> int:
    """Number of optimizer steps before the checkpoint. Its `step`, which names it, may be larger: see `numbers`."""
    return int(checkpoint.path.name)


def numbers(catalog: Catalog, job: Job, folders: Sequence[Path]) -> list[int]:
    """The numbers that name the run's checkpoints in these folders, normally their optimizer steps.

    A checkpoint of an earlier run keeps its number if the bake's name means it or another job uses it, since the new
    one may still be refused. Numbers of checkpoints that anything came from are never given again, not even if the bake
    was deleted and made anew. The new one then gets the next free number.
    """
    own = {checkpoint.path: checkpoint.step for checkpoint in of_job(catalog, job)}
    taken = {checkpoint.step for checkpoint in _kept(catalog, job, moves=1)} | set(own.values())
    taken |= records.taken_steps(catalog, job.user, job.repo, job.name)
    chosen = []
    for folder in folders:
        number = own.get(folder, int(folder.name))
        while folder not in own and number in taken:
            number += 1
        taken.add(number)
        chosen.append(number)
    return chosen


class Kept(NamedTuple):
    """Checkpoints as their rows have them."""

    checkpoints: list[Checkpoint]
    moved: list[Checkpoint]
    """Those that the bake's name moved to, in this order."""
    view: RepoView
    """The repo's names and commits with them."""
    warning: str | None = None
    """Why the branch that the bake names did not move to its result."""


def keep(
    catalog: Catalog,
    job: BakeJob,
    checkpoints: list[Checkpoint],
    moving: list[Checkpoint],
    /,
    *,
    loss: Loss | None = None,
    is_result: bool = False,
    **changes: Any,
) -> Kept:
    """Add the checkpoints and their commits, and set the job's columns in the same transaction.

    The bake's name does not move to checkpoints that were added before an interruption, since a client may have moved
    it since. The branch that the bake names moves to its result if the name does.

    Args:
        moving: checkpoints that the bake's name is to move to, in this order.
        loss: what the evaluations measured so far; the last checkpoint's commit gets it as a note.
        is_result: whether the last checkpoint is the bake's result, and the loss is the bake's too.
    """
    with catalog.store.transaction():
        with pointers.recorded(catalog, *_bake(job), MovedBy.BAKE, job=job.id):
            if is_result:
                changes["loss"] = loss
            if changes:
                catalog.store.jobs.update(job.id, **changes)
            known = {checkpoint.path: checkpoint for checkpoint in of_job(catalog, job)}
            kept, moved = [], []
            for checkpoint in checkpoints:
                if checkpoint.path in known:
                    kept.append(known[checkpoint.path])
                    continue
                kept.append(commits.committed(catalog, checkpoint))
                catalog.store.checkpoints.add(kept[-1], moves_name=checkpoint in moving)
                if checkpoint in moving:
                    moved.append(kept[-1])
            commits.evaluated(catalog, kept[-1], loss)
            if is_result:
                commits.proved(catalog, kept[-1])
        has_moved = is_result and kept[-1] in moved
        warning = refs.follow(catalog, job, kept[-1].commit_id or "") if has_moved else None
        return Kept(kept, moved, repo_view(catalog, job.user, job.repo), warning)


def prune(catalog: Catalog, job: Job, limit: int) -> list[Checkpoint]:
    """Remove all but the newest `limit` checkpoints of the run, except the live one and those that another job uses or
    a branch or tag means."""
    with catalog.store.transaction():
        live = bakes.find_checkpoint(catalog, job.user, job.repo, job.name, None)
        is_needed = _is_needed(catalog, job)
        older = of_job(catalog, job)[limit:]
        return _remove(catalog, [known for known in older if known != live and not is_needed(known)])


def discard_run(catalog: Catalog, job: Job) -> list[Checkpoint]:
    """Remove the checkpoints of this run of the bake, and set its progress to 0."""
    with catalog.store.transaction(), pointers.taken_back(catalog, *_bake(job), job.id):
        catalog.store.jobs.update(job.id, progress_percent=0.0)
        return remove_of_job(catalog, job)


def remove_of_job(catalog: Catalog, job: Job) -> list[Checkpoint]:
    return _remove_where(catalog, job, lambda known: known.job_id == job.id)


def remove_of_other_jobs(catalog: Catalog, job: Job, result: Checkpoint) -> list[Checkpoint]:
    """Remove the checkpoints of earlier runs of the bake, except those that another job uses or a branch or tag means,
    the live one and, if the result is served, the one that was live before: a rollback goes there."""
    kept = _kept(catalog, job, moves=2 if result.is_served else 1)
    return _remove_where(catalog, job, lambda known: known.job_id != job.id and known not in kept)


def remove_namesakes(catalog: Catalog, job: Job, checkpoint: Checkpoint) -> list[Checkpoint]:
    """Remove a checkpoint of another run with the same name."""
    return _remove_where(catalog, job, lambda known: known.name == checkpoint.name and known.job_id != job.id)


def hand_over(catalog: Catalog, before: BakeJob, job: BakeJob) -> None:
    """Give the checkpoints of one run of a bake to the next run, which continues it."""
    with catalog.store.transaction():
        catalog.store.checkpoints.hand_over(before.id, job.id)
        catalog.store.jobs.update(job.id, loss=before.loss, progress_percent=before.progress_percent)


def _kept(catalog: Catalog, job: Job, moves: int) -> list[Checkpoint]:
    """The bake's checkpoints that another job uses, that a branch or tag means, or that its name means now or, if
    `moves` is 2, meant before."""
    meant = [move.checkpoint for move in catalog.store.checkpoints.moves(job.user, job.repo, job.name)[:moves]]
    is_needed = _is_needed(catalog, job)
    known = bakes.checkpoints(catalog, job.user, job.repo, job.name)
    return [checkpoint for checkpoint in known if checkpoint in meant or is_needed(checkpoint)]


def _is_needed(catalog: Catalog, job: Job) -> Callable[[Checkpoint], bool]:
    """Whether a job uses a checkpoint, or a branch or tag means it."""
    in_use, named = bakes.checkpoints_in_use(catalog), catalog.history.refs.targets(job.user)
    return lambda checkpoint: checkpoint.name in in_use or checkpoint.commit_id in named


def _remove_where(catalog: Catalog, job: Job, test: Callable[[Checkpoint], bool]) -> list[Checkpoint]:
    with catalog.store.transaction():
        known = bakes.checkpoints(catalog, job.user, job.repo, job.name)
        return _remove(catalog, [checkpoint for checkpoint in known if test(checkpoint)])


def _remove(catalog: Catalog, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    records.delete_checkpoints(catalog, checkpoints)
    return checkpoints
