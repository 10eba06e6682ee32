"""Targets: added, changed, removed; and the jobs of one."""

import msgspec

from baker.config.generator import detach_templates
from baker.config.target import TargetConfig, target_config
from baker.errors import ConflictError
from baker.history.operation_table import Change
from baker.question_templates import template_name
from baker.repos import records, recycle_bin
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
from baker.status import Stage
from baker.storage.job import BakeJob, RolloutJob, StimJob
from baker.storage.rows import Row

STAGES = (Stage.STIM, Stage.ROLLOUT)


def put(catalog: Catalog, user: str, repo: str, name: str, template: str, overrides: Row, *, may_change: bool) -> Put:
    """Add the target, or change its config if `may_change` and no job has used it.

    Args: template: name of a target, or "default"; `overrides` are laid over its config.
    Raises: ConfigError; NotFoundError if the repo or the template is missing; ConflictError if it has another config.
    """
    with catalog.store.transaction():
        catalog.repo(user, repo)
        config = read_config(
            "target",
            name,
            lambda: None if template == DEFAULT_TEMPLATE else get(catalog, user, repo, template),
            lambda below: target_config(overrides, below),
        )
        generators, templates = detach_templates(config.generators)
        config = msgspec.structs.replace(config, generators=generators)
        existing = _find(catalog, user, repo, name)
        if config != existing:
            if existing is not None:
                is_used = has_result(catalog, user, repo, name)
                check_may_change("Target", name, repo, may_change=may_change, has_output=is_used)
            catalog.store.put_config("targets", user, repo, name, msgspec.to_builtins(config))
        changes = [Change("target", name, plain(existing), plain(config))]
        for template, content in templates.items():
            changes.append(Change("template", template, catalog.store.template(user, repo, template), content))
            catalog.store.put_template(user, repo, template, content)
        catalog.history.log.record(user, repo, "put-target", changes)
        return Put(config, existing is None)


def get(catalog: Catalog, user: str, repo: str, name: str) -> TargetConfig:
    """Raises: NotFoundError."""
    catalog.repo(user, repo)
    config = _find(catalog, user, repo, name)
    if config is None:
        raise catalog.not_found("targets", user, repo, name)
    return config


def has_result(catalog: Catalog, user: str, repo: str, name: str) -> bool:
    """Whether the target's config can't change any more, because what its jobs wrote depends on it."""
    return any(has_output(catalog.store.jobs.latest(stage, user, repo, name)) for stage in STAGES)


def _find(catalog: Catalog, user: str, repo: str, name: str) -> TargetConfig | None:
    # Typed, so that a row of an older version, which lacks newer fields, equals a new config with their defaults.
    row = catalog.store.config("targets", user, repo, name)
    return None if row is None else msgspec.convert(row, TargetConfig)


def templates(catalog: Catalog, user: str, repo: str, name: str) -> dict[str, str]:
    """Path -> text of the templates that the target's generators name and the repo has. Raises: NotFoundError."""
    generators = get(catalog, user, repo, name).generators
    paths = sorted({generator.template_path for generator in generators if generator.template_path is not None})
    texts = {path: catalog.store.template(user, repo, template_name(path)) for path in paths}
    return {path: text for path, text in texts.items() if text is not None}


def latest_stim(catalog: Catalog, user: str, repo: str, name: str) -> StimJob | None:
    """Raises: NotFoundError if there is no such target."""
    get(catalog, user, repo, name)
    return catalog.store.jobs.latest_stim(user, repo, name)


def latest_rollout(catalog: Catalog, user: str, repo: str, name: str) -> RolloutJob | None:
    """Raises: NotFoundError if there is no such target."""
    get(catalog, user, repo, name)
    return catalog.store.jobs.latest_rollout(user, repo, name)


def delete(catalog: Catalog, user: str, repo: str, name: str, *, prune: bool = False) -> Deletion:
    """Remove the target and its jobs. They go to the bin, from which `undo` brings them back. Bakes that used it keep a
    copy of their data.

    Args: prune: remove them for good, with earlier ones of that name in the bin.
    Returns: among the removed jobs are those of bakes whose records only the target's rollout needed.
    Raises: NotFoundError; see `check_may_go`.
    """
    with catalog.store.transaction():
        config = get(catalog, user, repo, name)
        check_may_go(catalog, user, repo, name)
        changes = [Change("target", name, plain(config), None)]
        operation = catalog.history.log.record(user, repo, "delete-target", changes, is_undoable=not prune)
        removed = take_away(catalog, user, repo, name, None if prune else operation)
        if prune:
            removed += recycle_bin.purge(catalog, user, repo, "target", name)
        return Deletion(operation, not prune, removed)


def check_may_go(catalog: Catalog, user: str, repo: str, name: str) -> None:
    """Raises: ConflictError while a job of the target is active, or a bake needs it."""
    for job in catalog.active_jobs_in(user, repo):
        if isinstance(job, BakeJob):
            if name in job.inputs.rollouts:
                raise ConflictError(
                    f"Bake {job.name!r} is {job.state} and needs target {name!r}: wait until it ends, or cancel it"
                )
        elif job.name == name:
            raise ConflictError(f"The {job.stage} of target {name!r} is {job.state}: wait until it ends, or cancel it")


def take_away(catalog: Catalog, user: str, repo: str, name: str, operation: int | None) -> list[int]:
    """Remove the target's config and jobs. Args: operation: that takes them to the bin; None: for good.

    Returns: the numbers of the jobs whose files may be removed.
    """
    catalog.store.remove("targets", user, repo, name)
    if operation is not None:
        catalog.store.bin.put(catalog.store.jobs.ids(user, repo, name, STAGES), operation)
        return []
    return catalog.store.jobs.remove(user, repo, name, STAGES) + records.sweep(catalog)
