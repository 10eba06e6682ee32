"""A catalog with one repo, and helpers that change it."""

import time
from typing import Any

import pytest

from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.repos import prompts, repos, targets
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.job import AnyJob
from baker.types import Checkpoint, Prompt

USER = "admin"
POLICY = Policy(has_anthropic_key=False, stim_fallback=True, max_lora_rank=32)
TEMPLATE = "${numq} about ${prompt_u}"
LOUD = Prompt(messages=[{"role": "system", "content": "Be loud", "name": "kept"}])


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    """A repo with two prompts and a target that is ready to run."""
    repos.put(catalog, USER, "repo", None)
    prompts.put(catalog, USER, "repo", "loud", LOUD, may_change=False)
    prompts.put(catalog, USER, "repo", "plain", Prompt(), may_change=False)
    put_target(catalog)
    return catalog


def put_target(catalog: Catalog, name: str = "target", **overrides: Any) -> None:
    questions = {"type": "hardcoded", "questions": ["One?", "Two?"]}
    settings = {"u": "loud", "v": "plain", "generators": [questions], **overrides}
    targets.put(catalog, USER, "repo", name, "default", settings, may_change=True)


def start(catalog: Catalog, stage: Stage, name: str, key: str | None = None, policy: Policy = POLICY) -> AnyJob:
    return plan.start(catalog, policy, stage, USER, "repo", name, key)


def finish(catalog: Catalog, job: AnyJob, state: JobState = JobState.COMPLETE, lines: int = 2) -> None:
    catalog.store.jobs.update(job.id, state=state, lines=lines, error="broken" if state is JobState.FAILED else None)


def checkpoint(catalog: Catalog, step: int, job_id: int) -> Checkpoint:
    return Checkpoint(
        user=USER,
        repo="repo",
        bake="bake",
        step=step,
        path=catalog.store.home / "jobs" / str(job_id) / "checkpoints" / str(step),
        sha256="0" * 64,
        created=int(time.time()),
        job_id=job_id,
    )
