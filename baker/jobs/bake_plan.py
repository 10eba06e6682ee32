"""What a bake needs before it may start."""

from collections.abc import Mapping

from baker.config import unsupported
from baker.config.bake import BakeConfig
from baker.errors import BakeryError, InvalidInputError
from baker.history import graph
from baker.history.ref_table import RefKind
from baker.history.revisions import SHORT_ID, RepoView
from baker.jobs import awaited as awaited_bakes
from baker.jobs.policy import Policy
from baker.merging.plan import plan_merge
from baker.repos import bakes, models, targets
from baker.repos.catalog import Catalog
from baker.repos.models import ResolvedModel
from baker.repos.repo_view import repo_view
from baker.status import JobState
from baker.storage.job import BakeJob, RolloutJob
from baker.storage.job_inputs import AwaitedBake, BakeInputs, MergeInputs, TargetSnapshot
from baker.types import Checkpoint


def plan_bake(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> BakeJob:
    """Raises: NotFoundError; InvalidInputError with what is missing or can't be done here."""
    config = bakes.get(catalog, user, repo, name)
    student = config.model.student_model_path
    _check_config(policy, name, config)
    view = repo_view(catalog, user, repo)
    tip = _branch_tip(view, config)
    begins_on_branch = config.parent is None and tip is not None
    named = f"{user}/{repo}/{config.branch}" if begins_on_branch else config.parent
    if config.merge.is_set and config.merge.into is not None:
        named = f"{user}/{repo}/{config.merge.into}"
    parent = models.resolve(catalog, user, named or catalog.repo(user, repo).base_model)
    _check_parent(name, parent, student)
    merge = _merge(catalog, user, repo, config, parent)
    rollouts = _rollouts(catalog, user, repo, name, config)
    parent_name = None if parent.checkpoint is None else parent.checkpoint.name
    start = _identity(catalog, parent_name if merge is None else merge.base, parent.awaited)
    others = [] if student is not None else [t for t, job in rollouts.items() if _teacher(catalog, job) != start]
    return BakeJob(
        user=user,
        repo=repo,
        name=name,
        config=config,
        inputs=BakeInputs(
            rollouts={target: job.id for target, job in rollouts.items()},
            checkpoint=parent_name,
            targets={target: _snapshot(catalog, job) for target, job in rollouts.items()},
            student=student,
            branch_tip=tip,
            is_own_teacher=student is None and not others and bool(rollouts),
            merge=merge,
            awaited_bake=parent.awaited,
        ),
        depends_on=[*(job.id for job in rollouts.values()), *([] if parent.awaited is None else [parent.awaited.job])],
        warnings=[
            *unsupported.warnings(config),
            *_model_warnings(catalog, parent, student),
            *_branch_warnings(view, config, _starts(parent, merge), tip),
            *(_other_teacher_warning(config, rollouts[target], start or catalog.base.served) for target in others),
        ],
    )


def _merge(catalog: Catalog, user: str, repo: str, config: BakeConfig, parent: ResolvedModel) -> MergeInputs | None:
    if not config.merge.is_set:
        return None
    if parent.awaited is not None:
        raise InvalidInputError(f"{parent.awaited.name!r} is still training: wait for its end, then merge")
    return plan_merge(catalog, user, repo, config, parent.checkpoint)


def _branch_tip(view: RepoView, config: BakeConfig) -> str | None:
    """Id of the commit that the config's branch means; None if there is no such branch yet, or none is named.

    Raises: InvalidInputError if the name is that of a bake or a tag.
    """
    if config.branch is None:
        return None
    ref = view.refs.get(config.branch)
    if config.branch in view.bakes or (ref is not None and ref.kind is not RefKind.BRANCH):
        kind = "bake" if config.branch in view.bakes or ref is None else ref.kind
        raise InvalidInputError(f"branch is {config.branch!r}, which is a {kind} of repo {view.repo!r}: choose another")
    return None if ref is None else ref.target


def _starts(parent: ResolvedModel, merge: MergeInputs | None) -> list[str] | None:
    """The commits that the bake's result will come from; None: they do not exist yet."""
    if parent.awaited is not None:
        return None
    if merge is not None:
        return [side.commit for side in merge.sides]
    return [] if parent.checkpoint is None or parent.checkpoint.commit_id is None else [parent.checkpoint.commit_id]


def _branch_warnings(view: RepoView, config: BakeConfig, starts: list[str] | None, tip: str | None) -> list[str]:
    if tip is None or starts is None or any(graph.is_ancestor(view.parents, tip, start) for start in starts):
        return []
    return [
        f"branch {config.branch!r} will not move to the result: it means {tip[:SHORT_ID]}, and the bake's parent did "
        "not come from that; name no parent to begin from the branch"
    ]


def _check_config(policy: Policy, bake: str, config: BakeConfig) -> None:
    is_merge_of_rows = config.merge.is_set and config.merge.meant_strategy != "compose"
    if is_merge_of_rows and config.datasets:
        raise InvalidInputError(
            f"Bake {bake!r} is a merge, which is trained on the versions' own rows: leave datasets out, or set "
            "merge.strategy to compose"
        )
    if not config.datasets and not is_merge_of_rows:
        raise InvalidInputError(f"Bake {bake!r} has no datasets: name at least one target")
    if refusals := unsupported.refusals(config):
        raise InvalidInputError(f"Bake {bake!r} can't be run here: {'; '.join(refusals)}")
    rank, student = config.model.baked_adapter_config.r, config.model.student_model_path
    if student is not None:
        _check_student(policy, student, bake)
    elif rank > policy.max_lora_rank:
        raise InvalidInputError(
            f"model.baked_adapter_config.r is {rank}, but this service serves ranks up to {policy.max_lora_rank}: "
            "lower it, or start the service with --max-lora-rank"
        )


def _check_student(policy: Policy, student: str, bake: str) -> None:
    try:
        if policy.students is None:
            raise InvalidInputError(f"model.student_model_path is {student!r}, but this service has no other models")
        policy.students.check(student)
    except InvalidInputError as error:
        raise InvalidInputError(f"Bake {bake!r} can't be run here: {error.message}") from error


def _check_parent(bake: str, parent: ResolvedModel, student: str | None) -> None:
    adapter = parent.checkpoint or parent.awaited
    if student is not None and adapter is not None:
        raise InvalidInputError(
            f"Bake {bake!r} can't be run here: model.student_model_path names another model, which can't start from "
            f"{adapter.name!r}, an adapter of the served one: use that adapter as the model_name of its "
            "targets instead"
        )


def _rollouts(catalog: Catalog, user: str, repo: str, bake: str, config: BakeConfig) -> dict[str, RolloutJob]:
    """Target -> its latest rollout, for targets of a positive weight."""
    rollouts: dict[str, RolloutJob] = {}
    missing = []
    for target in (target for target, weight in config.weights.items() if weight > 0):
        job = catalog.store.jobs.latest_rollout(user, repo, target)
        if job is None or job.state is JobState.FAILED:
            missing.append(f"{target!r} ({'not started' if job is None else 'failed'})")
        else:
            rollouts[target] = job
    if missing:
        raise InvalidInputError(f"Bake {bake!r} needs rollouts that are missing: {', '.join(missing)}: run them first")
    if rollouts and _are_empty(rollouts):
        raise InvalidInputError(f"Bake {bake!r} has no trajectories to train on: its rollouts are empty")
    return rollouts


def _are_empty(rollouts: Mapping[str, RolloutJob]) -> bool:
    return all(job.state is JobState.COMPLETE and job.lines == 0 for job in rollouts.values())


def _snapshot(catalog: Catalog, rollout: RolloutJob) -> TargetSnapshot:
    target = (rollout.user, rollout.repo, rollout.name)
    return TargetSnapshot(
        config=targets.get(catalog, *target),
        teacher=rollout.inputs.teacher,
        student=rollout.inputs.student,
        templates=targets.templates(catalog, *target),
        checkpoint=rollout.inputs.checkpoint,
    )


def _teacher(catalog: Catalog, rollout: RolloutJob) -> str | None:
    return _identity(catalog, rollout.inputs.checkpoint, rollout.inputs.awaited_bake)


def _identity(catalog: Catalog, checkpoint: str | None, awaited: AwaitedBake | None) -> str | None:
    """Equal for the same model: a checkpoint's name, or that of a job whose result will be one; None: the base."""
    if awaited is None:
        return checkpoint
    try:
        result = awaited_bakes.result_of(catalog, awaited)
    except BakeryError:  # the queue is about to fail the jobs that wait for it
        result = None
    return result or f"job {awaited.job}"


def _model_warnings(catalog: Catalog, parent: ResolvedModel, student: str | None) -> list[str]:
    warnings = []
    if student is not None:
        warnings.append(
            f"model.student_model_path: the adapter is for {student!r}, which is not served here: it can be "
            "downloaded, but no model name means it"
        )
    if parent.warning is not None:
        warnings.append(f"model.parent_model_name: {parent.warning}")
    if parent.checkpoint is not None and _is_in_training(catalog, parent.checkpoint):
        warnings.append(
            f"model.parent_model_name: {parent.checkpoint.name!r} is not its bake's last checkpoint: that bake is "
            "still training"
        )
    return warnings


def _is_in_training(catalog: Catalog, checkpoint: Checkpoint) -> bool:
    state = catalog.store.jobs.state_of(checkpoint.job_id)
    return state is not None and state.is_active


def _other_teacher_warning(config: BakeConfig, rollout: RolloutJob, start: str) -> str:
    warning = f"target {rollout.name!r} was answered by {rollout.inputs.model!r}, but the bake starts from {start!r}"
    return f"{warning}, which also teaches during training" if config.data.has_other_teacher else warning
