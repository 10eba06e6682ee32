"""What a bake needs before it may start."""

from baker.config import unsupported
from baker.errors import InvalidInputError
from baker.jobs.policy import Policy
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job import BakeJob, RolloutJob
from baker.storage.job_inputs import BakeInputs, TargetSnapshot
from baker.types import Checkpoint


def plan_bake(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> BakeJob:
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
    rollouts: dict[str, RolloutJob] = {}
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
        job = catalog.store.jobs.latest_rollout(user, repo, target)
        if job is None or job.state is JobState.FAILED:
            missing.append(f"{target!r} ({'not started' if job is None else 'failed'})")
            continue
        rollouts[target] = job
        if student is None and job.inputs.checkpoint != parent_name:
            is_own_teacher = False
            warnings.append(
                f"target {target!r} was answered by {job.inputs.model!r}, but the bake starts from "
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
                config=catalog.target(user, repo, target),
                teacher=job.inputs.teacher,
                student=job.inputs.student,
                templates=catalog.templates_of(user, repo, target),
            )
            for target, job in rollouts.items()
        },
        student=student,
        is_own_teacher=is_own_teacher,
    )
    return BakeJob(
        user=user,
        repo=repo,
        name=name,
        config=config,
        inputs=inputs,
        depends_on=[job.id for job in rollouts.values()],
        warnings=warnings,
    )


def _check_student(policy: Policy, student: str, bake: str) -> None:
    try:
        if policy.students is None:
            raise InvalidInputError(f"model.student_model_path is {student!r}, but there are no other models here")
        policy.students.check(student)
    except InvalidInputError as error:
        raise InvalidInputError(f"Bake {bake!r} can't be run here: {error.message}") from error


def _is_being_made(catalog: Catalog, checkpoint: Checkpoint) -> bool:
    job = catalog.store.jobs.find(checkpoint.job_id)
    return job is not None and job.state.is_active
