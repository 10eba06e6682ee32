"""Bakes: added, changed, removed; the jobs and checkpoints of one."""

from typing import NamedTuple

import msgspec

from baker.config.bake import BakeConfig, bake_config
from baker.errors import ConflictError
from baker.history.operation_table import Change
from baker.history.ref_table import RefKind
from baker.repos import pointers, records, recycle_bin, targets
from baker.repos.catalog import (
    DEFAULT_TEMPLATE,
    Catalog,
    Deletion,
    Put,
    check_may_change,
    has_output,
    plain,
    read_config,
)
from baker.repos.repo_view import check_is_free, repo_view
from baker.status import Stage
from baker.storage.job import BakeJob
from baker.storage.rows import Row
from baker.types import Checkpoint

NAMING = (RefKind.BRANCH, RefKind.TAG)
"""Refs whose versions stay served as long as they exist."""


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
        another config, or a branch or tag has its name.
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
        existing = find(catalog, user, repo, name)
        if existing is None:
            check_is_free(repo_view(catalog, user, repo), name)
        if config != existing:
            if existing is not None:
                is_used = has_result(catalog, user, repo, name)
                check_may_change("Bake", name, repo, may_change=may_change, has_output=is_used)
            catalog.store.put_config("bakes", user, repo, name, msgspec.to_builtins(config))
            changes = [Change("bake-config", name, plain(existing), plain(config))]
            catalog.history.log.record(user, repo, "put-bake", changes)
        return Put(config, existing is None)


def get(catalog: Catalog, user: str, repo: str, name: str) -> BakeConfig:
    """Raises: NotFoundError."""
    catalog.repo(user, repo)
    config = find(catalog, user, repo, name)
    if config is None:
        raise catalog.not_found("bakes", user, repo, name)
    return config


def find(catalog: Catalog, user: str, repo: str, name: str) -> BakeConfig | None:
    """The bake's config; None if there is no such bake."""
    row = catalog.store.config("bakes", user, repo, name)
    return None if row is None else msgspec.convert(row, BakeConfig)


def delete(catalog: Catalog, user: str, repo: str, name: str, *, prune: bool = False) -> Deletion:
    """Remove the bake, its jobs and its checkpoints. They go to the bin, from which `undo` brings them back.

    Args: prune: remove them for good, with earlier ones of that name in the bin. If others began from the bake, a
        record of it stays: see `records.py`.
    Raises: NotFoundError; see `check_may_go`.
    """
    with catalog.store.transaction():
        config = get(catalog, user, repo, name)
        check_may_go(catalog, user, repo, name)
        meant = pointers.pointer(catalog, user, repo, name)
        changes = [Change("bake-config", name, plain(config), None), Change("bake", name, plain(meant), None)]
        operation = catalog.history.log.record(user, repo, "delete-bake", changes, is_undoable=not prune)
        removed = take_away(catalog, user, repo, name, None if prune else operation)
        if prune:
            removed += recycle_bin.purge(catalog, user, repo, "bake-config", name)
        return Deletion(operation, not prune, removed)


def check_may_go(catalog: Catalog, user: str, repo: str, name: str) -> None:
    """Raises: ConflictError while the bake runs, another job needs it, or a branch or tag names one of its versions."""
    check_is_idle(catalog, user, repo, name)
    catalog.check_unread(user, f"{user}/{repo}/{name}/", f"bake {name!r}")
    targets_of = {ref.target: ref for ref in catalog.history.refs.of_repo(user, repo) if ref.kind in NAMING}
    for checkpoint in checkpoints(catalog, user, repo, name):
        if (ref := targets_of.get(checkpoint.commit_id or "")) is not None:
            raise ConflictError(
                f"The {ref.kind} {ref.name!r} names '{repo}/{name}/{checkpoint.step}': move or delete it first"
            )
    catalog.check_unnamed(user, repo, name)


def check_is_idle(catalog: Catalog, user: str, repo: str, name: str) -> None:
    """Raises: ConflictError while the bake runs."""
    for job in catalog.active_jobs_in(user, repo):
        if isinstance(job, BakeJob) and job.name == name:
            raise ConflictError(f"Bake {name!r} is {job.state}: wait until it ends, or cancel it")


def take_away(catalog: Catalog, user: str, repo: str, name: str, operation: int | None) -> list[int]:
    """Remove the bake's config, jobs and checkpoints. Args: operation: that takes them to the bin; None: for good.

    Returns: the numbers of the jobs whose files may be removed.
    """
    catalog.store.remove("bakes", user, repo, name)
    if operation is not None:
        catalog.store.bin.put(catalog.store.jobs.ids(user, repo, name, (Stage.BAKE,)), operation)
        return []
    removed = records.delete_bakes(catalog, user, repo, name)
    return removed + [number for number in records.sweep(catalog) if number not in removed]


def latest_job(catalog: Catalog, user: str, repo: str, name: str) -> BakeJob | None:
    """Raises: NotFoundError if there is no such bake."""
    get(catalog, user, repo, name)
    return catalog.store.jobs.latest_bake(user, repo, name)


def job_before(catalog: Catalog, job: BakeJob) -> BakeJob | None:
    """The run of the same bake before `job`."""
    return catalog.store.jobs.bake_before(job)


def has_result(catalog: Catalog, user: str, repo: str, name: str) -> bool:
    """Whether the bake's config can't change any more, because what it made depends on it."""
    job = catalog.store.jobs.latest_bake(user, repo, name)
    return has_output(job) and not (job is not None and is_held_back(catalog, job))


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


def all_live_first(catalog: Catalog, user: str, repo: str) -> dict[str, list[int]]:
    """Bake -> the training steps of its checkpoints, in the order of `live_first`, for all bakes of the repo that have
    some."""
    by_bake: dict[str, list[int]] = {}
    live_steps = catalog.store.checkpoints.live_steps(user, repo)
    for bake, step in catalog.store.checkpoints.steps(user, repo):
        of_bake = by_bake.setdefault(bake, [])
        of_bake.insert(0 if live_steps.get(bake) == step else len(of_bake), step)
    return by_bake
