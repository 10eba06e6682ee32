"""What a stage needs before it may start, and the copy of it that its job works on.

A job that was started is not touched by later edits of prompts, targets or bakes. Blocks, like the catalog it reads:
see `threads.OneThread`.
"""

import time
from collections.abc import Callable

import msgspec

from baker.jobs.bake_plan import plan_bake
from baker.jobs.policy import Policy
from baker.jobs.rollout_plan import plan_rollout
from baker.jobs.stim_plan import plan_stim
from baker.repos import bakes, targets
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.job import AnyJob, BakeJob

Planner = Callable[[Catalog, Policy, str, str, str], AnyJob]


def start(catalog: Catalog, policy: Policy, stage: Stage, user: str, repo: str, name: str, key: str | None) -> AnyJob:
    """The job of that stage: the one there is, or a new one, pending.

    A failed job is started again under a new number, except for a repeat of the request (`key`, the client's
    Idempotency-Key) that started it. So is a bake that was held back, once its config is another.

    Raises: NotFoundError; InvalidInputError saying what is missing, and nothing is left behind.
    """
    with catalog.store.transaction():
        existing = latest_job(catalog, stage, user, repo, name)
        if existing is not None:
            is_over = existing.state is JobState.FAILED or _is_to_be_tried_otherwise(catalog, existing)
            if not is_over or (key is not None and existing.idempotency_key == key):
                return existing
        planned = _PLANNERS[stage](catalog, policy, user, repo, name)
        return catalog.store.jobs.add(msgspec.structs.replace(planned, idempotency_key=key, created=int(time.time())))


def latest_job(catalog: Catalog, stage: Stage, user: str, repo: str, name: str) -> AnyJob | None:
    """The stage's latest job for that target or bake. Raises: NotFoundError if there is no such target or bake."""
    match stage:
        case Stage.STIM:
            return targets.latest_stim(catalog, user, repo, name)
        case Stage.ROLLOUT:
            return targets.latest_rollout(catalog, user, repo, name)
        case Stage.BAKE:
            return bakes.latest_job(catalog, user, repo, name)


def _is_to_be_tried_otherwise(catalog: Catalog, job: AnyJob) -> bool:
    if not isinstance(job, BakeJob) or not bakes.is_held_back(catalog, job):
        return False
    return job.config != bakes.get(catalog, job.user, job.repo, job.name)


_PLANNERS: dict[Stage, Planner] = {
    Stage.STIM: plan_stim,
    Stage.ROLLOUT: plan_rollout,
    Stage.BAKE: plan_bake,
}
