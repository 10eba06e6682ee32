"""What a stage needs before it may start, and the copy of it that its job works on.

A job that was started is not touched by later edits of prompts, targets or bakes. Blocks, like the catalog it reads:
see `threads.OneThread`.
"""

import time
from collections.abc import Callable

import msgspec

from baker.config import unsupported
from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import InvalidInputError
from baker.generator_plan import GeneratorPlanner
from baker.questions.stim import expected_stimuli
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.job import Job
from baker.storage.job_inputs import BakeInputs, RolloutInputs, StimInputs, TargetSnapshot
from baker.storage.models_folder import StudentModels
from baker.types import Checkpoint, Prompt


class Policy(msgspec.Struct, frozen=True):
    """What this service can do, and what its operator allows."""

    has_anthropic_key: bool
    stim_fallback: bool
    """A served model may stand in for an Anthropic one without a key."""
    max_lora_rank: int
    rollout_max_tokens: int = 1024
    """Tokens of an answer where the target does not say."""
    students: StudentModels | None = None
    """None: there are no other models."""


Planner = Callable[[Catalog, Policy, str, str, str], Job]


def start(catalog: Catalog, policy: Policy, stage: Stage, user: str, repo: str, name: str, key: str | None) -> Job:
    """The job of that stage: the one there is, or a new one, pending.

    A failed job is started again under a new number, except for a repeat of the request (`key`, the client's
    Idempotency-Key) that started it. So is a bake that was held back, once its config is another.

    Raises: NotFoundError; InvalidInputError saying what is missing, and nothing is left behind.
    """
    with catalog.store.transaction():
        existing = catalog.latest_job(stage, user, repo, name)
        if existing is not None:
            is_over = existing.state is JobState.FAILED or _is_to_be_tried_otherwise(catalog, existing)
            if not is_over or (key is not None and existing.idempotency_key == key):
                return existing
        planned = _PLANNERS[stage](catalog, policy, user, repo, name)
        return catalog.store.add_job(msgspec.structs.replace(planned, idempotency_key=key, created=int(time.time())))


def _is_to_be_tried_otherwise(catalog: Catalog, job: Job) -> bool:
    if job.stage is not Stage.BAKE or not catalog.is_held_back(job):
        return False
    return msgspec.convert(job.config, BakeConfig) != catalog.bake(job.user, job.repo, job.name)


def _plan_stim(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> Job:
    config = catalog.target(user, repo, name)
    teacher, student = _prompts(catalog, user, repo, name, config)
    if not config.generators:
        raise InvalidInputError(f"Target {name!r} has no generators: add at least one before stim")
    # The rollout's to use; but once the stim is made the target can't be changed any more.
    if config.model_name is not None:
        catalog.resolve_model(user, config.model_name)
    planner = GeneratorPlanner(
        catalog, user, repo, has_anthropic_key=policy.has_anthropic_key, stim_fallback=policy.stim_fallback
    )
    plans = [planner.plan(generator, f"generators[{index}]") for index, generator in enumerate(config.generators)]
    inputs = StimInputs(teacher, student, plans)
    return _job(Stage.STIM, user, repo, name, config, inputs, warnings=planner.warnings)


def _plan_rollout(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> Job:
    config = catalog.target(user, repo, name)
    max_tokens = config.max_tokens or policy.rollout_max_tokens
    stim_job = catalog.store.latest_job(Stage.STIM, user, repo, name)
    if stim_job is None or stim_job.state is JobState.FAILED:
        state = "has not been started" if stim_job is None else f"failed ({stim_job.error})"
        raise InvalidInputError(f"The stim of target {name!r} {state}: run stim first")
    teacher, student = _prompts(catalog, user, repo, name, config)
    model = config.model_name or catalog.repo(user, repo).base_model
    resolved = catalog.resolve_model(user, model)
    checkpoint = None if resolved.checkpoint is None else resolved.checkpoint.name
    expected = stim_job.lines if stim_job.state is JobState.COMPLETE else expected_stimuli(config.generators)
    return _job(
        Stage.ROLLOUT,
        user,
        repo,
        name,
        msgspec.structs.replace(config, max_tokens=max_tokens),
        RolloutInputs(stim_job.id, teacher, student, model, checkpoint, max_tokens),
        depends_on=[stim_job.id],
        warnings=[] if resolved.warning is None else [f"model_name: {resolved.warning}"],
        total_expected=expected * config.num_traj_per_stimulus,
    )


def _plan_bake(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> Job:
    config = catalog.bake(user, repo, name)
    if not config.datasets:
        raise InvalidInputError(f"Bake {name!r} has no datasets: name at least one target")
    if refusals := unsupported.refusals(config):
        raise InvalidInputError(f"Bake {name!r} can't be run here: {'; '.join(refusals)}")
    rank, student = config.model.baked_adapter_config.r, config.model.student_model_path
    if student is not None:
        _check_student(policy, student, name)
    elif rank > policy.max_lora_rank:
        raise InvalidInputError(
            f"model.baked_adapter_config.r is {rank}, but this service serves ranks up to {policy.max_lora_rank}: "
            "lower it, or start the service with --max-lora-rank"
        )
    parent = catalog.resolve_model(user, config.parent or catalog.repo(user, repo).base_model)
    parent_name = None if parent.checkpoint is None else parent.checkpoint.name
    if student is not None and parent_name is not None:
        raise InvalidInputError(
            f"Bake {name!r} can't be run here: model.student_model_path names another model, which can't start from "
            f"{parent_name!r}, an adapter of the served one: let its targets be answered by that (their model_name)"
        )
    rollouts: dict[str, Job] = {}
    missing = []
    is_own_teacher = student is None
    warnings = unsupported.warnings(config)
    if student is not None:
        warnings.append(
            f"model.student_model_path: the adapter will be one of {student!r}, which is not served here: it is kept "
            "for download, and no model name leads to it"
        )
    if parent.warning is not None:
        warnings.append(f"model.parent_model_name: {parent.warning}")
    if parent.checkpoint is not None and _is_being_made(catalog, parent.checkpoint):
        warnings.append(
            f"model.parent_model_name: {parent_name!r} is not its bake's last checkpoint: that one still trains"
        )
    for target in (target for target, weight in config.weights.items() if weight > 0):
        job = catalog.store.latest_job(Stage.ROLLOUT, user, repo, target)
        if job is None or job.state is JobState.FAILED:
            missing.append(f"{target!r} ({'not started' if job is None else 'failed'})")
            continue
        rollouts[target] = job
        if student is None and job.inputs["checkpoint"] != parent_name:
            is_own_teacher = False
            warnings.append(
                f"target {target!r} was answered by {job.inputs['model']!r}, but the bake starts from "
                f"{parent_name or catalog.base.served!r}"
                + (", which is the teacher from here on" if config.data.has_other_teacher else "")
            )
    if missing:
        raise InvalidInputError(
            f"Bake {name!r} needs rollouts that are not there: {', '.join(missing)}: run them first"
        )
    if all(job.state is JobState.COMPLETE and job.lines == 0 for job in rollouts.values()):
        raise InvalidInputError(f"Bake {name!r} has no trajectories to train on: its rollouts are empty")
    inputs = BakeInputs(
        rollouts={target: job.id for target, job in rollouts.items()},
        checkpoint=parent_name,
        targets={
            target: TargetSnapshot(
                config=msgspec.to_builtins(catalog.target(user, repo, target)),
                teacher=msgspec.convert(job.inputs["teacher"], Prompt),
                student=msgspec.convert(job.inputs["student"], Prompt),
                templates=catalog.templates_of(user, repo, target),
            )
            for target, job in rollouts.items()
        },
        student=student,
        is_own_teacher=is_own_teacher,
    )
    depends_on = [job.id for job in rollouts.values()]
    return _job(Stage.BAKE, user, repo, name, config, inputs, depends_on=depends_on, warnings=warnings)


def _check_student(policy: Policy, student: str, bake: str) -> None:
    try:
        if policy.students is None:
            raise InvalidInputError(f"model.student_model_path is {student!r}, but there are no other models here")
        policy.students.check(student)
    except InvalidInputError as error:
        raise InvalidInputError(f"Bake {bake!r} can't be run here: {error.message}") from error


def _is_being_made(catalog: Catalog, checkpoint: Checkpoint) -> bool:
    job = catalog.store.job(checkpoint.job_id)
    return job is not None and job.state.is_active


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
