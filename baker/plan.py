"""What a stage needs before it may start, and the copy of it that its job works on.

A job that was started is not touched by later edits of prompts, targets or bakes. Blocks, like the catalog it reads:
see `threads.OneThread`.
"""

import time
from collections.abc import Callable
from typing import Literal

import msgspec

from baker.catalog import Catalog
from baker.config import Hardcoded, OneshotQs, TargetConfig
from baker.errors import InvalidInputError
from baker.generators import ANTHROPIC_MAX_TEMPERATURE, hardcoded_questions
from baker.types import Job, JobState, Prompt, Stage


class AskerPlan(msgspec.Struct, frozen=True):
    """Which model writes a generator's questions."""

    kind: Literal["anthropic", "served"]
    model: str
    checkpoint: str | None = None
    """Name of the checkpoint, if the served model is a baked one."""


class StimInputs(msgspec.Struct, frozen=True):
    teacher: Prompt
    askers: list[AskerPlan | None]
    """One a generator; None where it asks no model."""


class RolloutInputs(msgspec.Struct, frozen=True):
    stim_job: int
    teacher: Prompt
    student: Prompt
    model: str
    checkpoint: str | None


class BakeInputs(msgspec.Struct, frozen=True):
    rollouts: dict[str, int]
    """Target -> number of its rollout job."""
    checkpoint: str | None
    """Name of the parent; None: the base model."""


class Policy(msgspec.Struct, frozen=True):
    """What this service can do, and what its operator allows."""

    has_anthropic_key: bool
    stim_fallback: bool
    """A served model may stand in for an Anthropic one without a key."""
    max_lora_rank: int


Planner = Callable[[Catalog, Policy, str, str, str], Job]


def start(catalog: Catalog, policy: Policy, stage: Stage, user: str, repo: str, name: str, key: str | None) -> Job:
    """The job of that stage: the one there is, or a new one, pending.

    A failed job is started again under a new number, except for a repeat of the request (`key`, the client's
    Idempotency-Key) that started it.

    Raises: NotFoundError; InvalidInputError saying what is missing, and nothing is left behind.
    """
    with catalog.store.transaction():
        existing = catalog.latest_job(stage, user, repo, name)
        if existing is not None and (
            existing.state is not JobState.FAILED or (key is not None and existing.idempotency_key == key)
        ):
            return existing
        planned = _PLANNERS[stage](catalog, policy, user, repo, name)
        return catalog.store.add_job(msgspec.structs.replace(planned, idempotency_key=key, created=int(time.time())))


def _plan_stim(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> Job:
    config = catalog.target(user, repo, name)
    teacher, _ = _prompts(catalog, user, repo, name, config)
    if not config.generators:
        raise InvalidInputError(f"Target {name!r} has no generators: add at least one before stim")
    askers: list[AskerPlan | None] = []
    warnings: list[str] = []
    for index, generator in enumerate(config.generators):
        if isinstance(generator, Hardcoded):
            if not hardcoded_questions(generator):
                raise InvalidInputError(f"generators[{index}] of target {name!r} is hardcoded and has no questions")
            askers.append(None)
        else:
            asker, warning = _plan_asker(catalog, policy, user, generator, f"generators[{index}]")
            askers.append(asker)
            warnings += warning
    return _job(Stage.STIM, user, repo, name, config, StimInputs(teacher, askers), warnings=warnings)


def _plan_asker(
    catalog: Catalog, policy: Policy, user: str, generator: OneshotQs, where: str
) -> tuple[AskerPlan, list[str]]:
    served = catalog.base.served
    model = generator.model
    if model is None:
        return AskerPlan("served", served), []
    if model.startswith("claude-"):
        if policy.has_anthropic_key:
            hot = generator.temperature > ANTHROPIC_MAX_TEMPERATURE
            cut = (
                f"{where}: Anthropic takes temperatures up to {ANTHROPIC_MAX_TEMPERATURE}, not {generator.temperature}"
            )
            return AskerPlan("anthropic", model), [cut] if hot else []
        if not policy.stim_fallback:
            raise InvalidInputError(
                f"{where} names {model!r}, and there is no Anthropic key: set ANTHROPIC_API_KEY, name the served model "
                f"{served!r}, or allow it to stand in with BREAD_STIM_FALLBACK=on"
            )
        warning = f"{where}: there is no Anthropic key, so {served!r} writes the questions in place of {model!r}"
        return AskerPlan("served", served), [warning]
    resolved = catalog.resolve_model(user, model)
    asker = AskerPlan("served", model, None if resolved.checkpoint is None else resolved.checkpoint.name)
    return asker, [] if resolved.warning is None else [f"{where}: {resolved.warning}"]


def _plan_rollout(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> Job:
    config = catalog.target(user, repo, name)
    stim_job = catalog.store.latest_job(Stage.STIM, user, repo, name)
    if stim_job is None or stim_job.state is JobState.FAILED:
        state = "has not been started" if stim_job is None else f"failed ({stim_job.error})"
        raise InvalidInputError(f"The stim of target {name!r} {state}: run stim first")
    teacher, student = _prompts(catalog, user, repo, name, config)
    model = config.model_name or catalog.repo(user, repo).base_model
    resolved = catalog.resolve_model(user, model)
    checkpoint = None if resolved.checkpoint is None else resolved.checkpoint.name
    return _job(
        Stage.ROLLOUT,
        user,
        repo,
        name,
        config,
        RolloutInputs(stim_job.id, teacher, student, model, checkpoint),
        depends_on=[stim_job.id],
        warnings=[] if resolved.warning is None else [f"model_name: {resolved.warning}"],
        total_expected=(stim_job.total_expected or 0) * config.num_traj_per_stimulus,
    )


def _plan_bake(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> Job:
    config = catalog.bake(user, repo, name)
    if not config.datasets:
        raise InvalidInputError(f"Bake {name!r} has no datasets: name at least one target")
    rank = config.model.baked_adapter_config.r
    if rank > policy.max_lora_rank:
        raise InvalidInputError(
            f"model.baked_adapter_config.r is {rank}, but this service serves ranks up to {policy.max_lora_rank}: "
            "lower it, or start the service with --max-lora-rank"
        )
    parent = catalog.resolve_model(user, config.model.parent_model_name or catalog.repo(user, repo).base_model)
    parent_name = None if parent.checkpoint is None else parent.checkpoint.name
    rollouts: dict[str, Job] = {}
    missing = []
    warnings = [] if parent.warning is None else [f"model.parent_model_name: {parent.warning}"]
    for target in {dataset.target: None for dataset in config.datasets if dataset.weight > 0}:
        job = catalog.store.latest_job(Stage.ROLLOUT, user, repo, target)
        if job is None or job.state is JobState.FAILED:
            missing.append(f"{target!r} ({'not started' if job is None else 'failed'})")
            continue
        rollouts[target] = job
        if job.inputs["checkpoint"] != parent_name:
            warnings.append(
                f"target {target!r} was answered by {job.inputs['model']!r}, but the bake starts from "
                f"{parent_name or catalog.base.served!r}"
            )
    if missing:
        raise InvalidInputError(
            f"Bake {name!r} needs rollouts that are not there: {', '.join(missing)}: run them first"
        )
    if all(job.state is JobState.COMPLETE and job.lines == 0 for job in rollouts.values()):
        raise InvalidInputError(f"Bake {name!r} has no trajectories to train on: its rollouts are empty")
    inputs = BakeInputs({target: job.id for target, job in rollouts.items()}, parent_name)
    depends_on = [job.id for job in rollouts.values()]
    return _job(Stage.BAKE, user, repo, name, config, inputs, depends_on=depends_on, warnings=warnings)


def _prompts(catalog: Catalog, user: str, repo: str, target: str, config: TargetConfig) -> tuple[Prompt, Prompt]:
    found = []
    for field, name in (("teacher_prompt", config.teacher_prompt), ("student_prompt", config.student_prompt)):
        if name is None:
            raise InvalidInputError(f'Target {target!r} has no {field}: name a prompt, or "" for none')
        prompt = Prompt() if name == "" else catalog.store.prompt(user, repo, name)
        if prompt is None:
            there = ", ".join(map(repr, catalog.names("prompts", user, repo))) or "none"
            raise InvalidInputError(
                f"Target {target!r} names the {field} {name!r}, which repo {repo!r} does not have; its prompts: {there}"
            )
        found.append(prompt)
    return found[0], found[1]


def _job(
    stage: Stage,
    user: str,
    repo: str,
    name: str,
    config: msgspec.Struct,
    inputs: msgspec.Struct,
    *,
    depends_on: list[int] | None = None,
    warnings: list[str] | None = None,
    total_expected: int | None = None,
) -> Job:
    return Job(
        id=0,
        stage=stage,
        user=user,
        repo=repo,
        name=name,
        state=JobState.PENDING,
        config=msgspec.to_builtins(config),
        inputs=msgspec.to_builtins(inputs),
        depends_on=depends_on or [],
        warnings=warnings or [],
        total_expected=total_expected,
    )


_PLANNERS: dict[Stage, Planner] = {
    Stage.STIM: _plan_stim,
    Stage.ROLLOUT: _plan_rollout,
    Stage.BAKE: _plan_bake,
}
