"""Starts a stage's job: checks what the stage needs, and copies what the job works on.

The copy protects a started job from later edits of prompts, targets and bakes. Blocks, like the catalog that it reads:
see `storage/one_thread.py`.
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
    """The latest job of that stage, or a new, pending one.

    A new job replaces one that failed, unless the request that started the failed job is repeated (same `key`, the
    client's Idempotency-Key). It also replaces a bake that was held back, if its config has changed since.

    Raises: NotFoundError; InvalidInputError with what is missing; no job is created then.
    """
    with catalog.store.transaction():
        existing = latest_job(catalog, stage, user, repo, name)
        if existing is not None:
            may_run_again = existing.state is JobState.FAILED or _is_held_back_and_changed(catalog, existing)
            if not may_run_again or (key is not None and existing.idempotency_key == key):
                return existing
        planned = _PLANNERS[stage](catalog, policy, user, repo, name)
        return catalog.store.jobs.add(_new(planned, key))


def _new(job: AnyJob, key: str | None) -> AnyJob:
    return msgspec.structs.replace(job, idempotency_key=key, created=int(time.time()), worked_seconds=0.0)


def latest_job(catalog: Catalog, stage: Stage, user: str, repo: str, name: str) -> AnyJob | None:
    """The stage's latest job for that target or bake. Raises: NotFoundError if there is no such target or bake."""
    match stage:
        case Stage.STIM:
            return targets.latest_stim(catalog, user, repo, name)
        case Stage.ROLLOUT:
            return targets.latest_rollout(catalog, user, repo, name)
        case Stage.BAKE:
            return bakes.latest_job(catalog, user, repo, name)


def _is_held_back_and_changed(catalog: Catalog, job: AnyJob) -> bool:
    if not isinstance(job, BakeJob) or not bakes.is_held_back(catalog, job):
        return False
    return job.config != bakes.get(catalog, job.user, job.repo, job.name)


_PLANNERS: dict[Stage, Planner] = {
    Stage.STIM: plan_stim,
    Stage.ROLLOUT: plan_rollout,
    Stage.BAKE: plan_bake,
}
