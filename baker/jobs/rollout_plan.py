"""What a rollout needs before it may start."""

import msgspec

from baker.errors import InvalidInputError
from baker.jobs.policy import Policy
from baker.jobs.prompts import prompts_of
from baker.questions.stim import expected_stimuli
from baker.repos import models, targets
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job import RolloutJob
from baker.storage.job_inputs import RolloutInputs


def plan_rollout(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> RolloutJob:
    """Raises: NotFoundError; InvalidInputError with what is missing."""
    config = targets.get(catalog, user, repo, name)
    max_tokens = config.max_tokens or policy.rollout_max_tokens
    stim_job = catalog.store.jobs.latest_stim(user, repo, name)
    if stim_job is None or stim_job.state is JobState.FAILED:
        state = "has not been started" if stim_job is None else f"failed ({stim_job.error})"
        raise InvalidInputError(f"The stim of target {name!r} {state}: run stim first")
    teacher, student = prompts_of(catalog, user, repo, name, config)
    model = config.model_name or catalog.repo(user, repo).base_model
    resolved = models.resolve(catalog, user, model)
    checkpoint = None if resolved.checkpoint is None else resolved.checkpoint.name
    expected = stim_job.lines if stim_job.state is JobState.COMPLETE else expected_stimuli(config.generators)
    return RolloutJob(
        user=user,
        repo=repo,
        name=name,
        config=msgspec.structs.replace(config, max_tokens=max_tokens),
        inputs=RolloutInputs(stim_job.id, teacher, student, model, checkpoint, max_tokens, resolved.awaited),
        depends_on=[stim_job.id, *([] if resolved.awaited is None else [resolved.awaited.job])],
        warnings=[] if resolved.warning is None else [f"model_name: {resolved.warning}"],
        total_expected=expected * config.num_traj_per_stimulus,
    )
