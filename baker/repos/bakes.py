"""Bakes: added, changed, removed; the jobs and checkpoints of one."""

from typing import NamedTuple

import msgspec

from baker.config.bake import BakeConfig, bake_config
from baker.errors import ConflictError
from baker.repos import records, targets
from baker.repos.catalog import DEFAULT_TEMPLATE, Catalog, Put, check_may_change, has_output, read_config
from baker.storage.job import BakeJob
from baker.storage.rows import Row
from baker.types import Checkpoint


class LiveFirst(NamedTuple):
    """A bake's finished checkpoints."""

    live: Checkpoint | None
    """The checkpoint that the bake's name means."""
    checkpoints: list[Checkpoint]
    """The live one, then all others, newest first."""


def put(
    catalog: Catalog,
    user: str,
    repo: str,
    name: str,
    template: str,
    overrides: Row,
    *,
    may_change: bool,
    max_rank: int | None = None,
) -> Put:
    """Add the bake, or change its config if `may_change` and no job has used it.

    Args:
        template: name of a bake, or "default"; `overrides` are laid over its config.
        max_rank: highest rank that the service serves; None: any.
    Raises: ConfigError; NotFoundError if the repo, the template or a target is missing; ConflictError if it has
        another config.
    """
    with catalog.store.transaction():
        catalog.repo(user, repo)
        config = read_config(
            "bake",
            name,
            lambda: None if template == DEFAULT_TEMPLATE else get(catalog, user, repo, template),
            lambda below: bake_config(overrides, below, max_rank=max_rank),
        )
        for dataset in config.datasets:
            targets.get(catalog, user, repo, dataset.target)
        existing = _find(catalog, user, repo, name)
        if config != existing:
            if existing is not None:
                job = catalog.store.jobs.latest_bake(user, repo, name)
                is_used = has_output(job) and not (job is not None and is_held_back(catalog, job))
                check_may_change("Bake", name, repo, may_change=may_change, has_output=is_used)
            catalog.store.put_config("bakes", user, repo, name, msgspec.to_builtins(config))
        return Put(config, existing is None)


def get(catalog: Catalog, user: str, repo: str, name: str) -> BakeConfig:
    """Raises: NotFoundError."""
    catalog.repo(user, repo)
    config = _find(catalog, user, repo, name)
    if config is None:
        raise catalog.not_found("bakes", user, repo, name)
    return config


def _find(catalog: Catalog, user: str, repo: str, name: str) -> BakeConfig | None:
    row = catalog.store.config("bakes", user, repo, name)
    return None if row is None else msgspec.convert(row, BakeConfig)


def delete(catalog: Catalog, user: str, repo: str, name: str) -> list[int]:
    """Remove the bake, its jobs and its checkpoints. If others began from it, a record of it stays: see `records.py`.

    Returns: the numbers of the jobs whose files may be removed.
    Raises: NotFoundError; ConflictError while the bake runs, or another job needs it.
    """
    with catalog.store.transaction():
        get(catalog, user, repo, name)
        for job in catalog.active_jobs_in(user, repo):
            if isinstance(job, BakeJob) and job.name == name:
                raise ConflictError(f"Bake {name!r} is {job.state}: wait until it ends, or cancel it")
        catalog.check_unread(user, f"{user}/{repo}/{name}/", f"bake {name!r}")
        removed = records.delete_bakes(catalog, user, repo, name)
        catalog.store.remove("bakes", user, repo, name)
        return removed + [number for number in records.sweep(catalog) if number not in removed]


def latest_job(catalog: Catalog, user: str, repo: str, name: str) -> BakeJob | None:
    """Raises: NotFoundError if there is no such bake."""
    get(catalog, user, repo, name)
    return catalog.store.jobs.latest_bake(user, repo, name)


def job_before(catalog: Catalog, job: BakeJob) -> BakeJob | None:
    """The run of the same bake before `job`."""
    return catalog.store.jobs.bake_before(job)


def is_held_back(catalog: Catalog, job: BakeJob) -> bool:
    """Whether the bake is complete and its name does not mean its result, so that another config may be tried."""
    live = find_checkpoint(catalog, job.user, job.repo, job.name, None)
    return job.held_back is not None and (live is None or live.job_id != job.id)


def checkpoints(catalog: Catalog, user: str, repo: str, name: str) -> list[Checkpoint]:
    """Newest first."""
    return catalog.store.checkpoints.of_bake(user, repo, name)


def checkpoints_in_use(catalog: Catalog) -> set[str]:
    """Names of the checkpoints that active jobs read."""
    return {name for job in catalog.active_jobs() for name in job.inputs.checkpoints}


def find_checkpoint(catalog: Catalog, user: str, repo: str, bake: str, step: int | None) -> Checkpoint | None:
    """The checkpoint of training step `step`; None: the one that the bake's name means."""
    if step is None:
        return next((move.checkpoint for move in catalog.store.checkpoints.moves(user, repo, bake)), None)
    return next((known for known in checkpoints(catalog, user, repo, bake) if known.step == step), None)


def live_first(catalog: Catalog, user: str, repo: str, name: str) -> LiveFirst:
    live = find_checkpoint(catalog, user, repo, name, None)
    newest_first = checkpoints(catalog, user, repo, name)
    return LiveFirst(live, sorted(newest_first, key=lambda checkpoint: checkpoint != live))
