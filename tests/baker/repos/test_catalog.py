"""Checks that all nouns of a repo share."""

from typing import Any

import pytest

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import ConflictError
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.job import AnyJob, BakeJob, RolloutJob, StimJob
from baker.storage.job_inputs import BakeInputs, GeneratorPlan, RolloutInputs, StimInputs, WriterPlan
from tests.baker.repos.filled import LOUD, USER, checkpoint, filled, finish

__all__ = ["filled"]  # a fixture


def running_job(stage: Stage, checkpoint: str) -> AnyJob:
    """A job in another repo that reads the checkpoint."""
    place: dict[str, Any] = {"user": USER, "repo": "elsewhere", "name": "worker", "state": JobState.RUNNING}
    if stage is Stage.BAKE:
        return BakeJob(**place, config=BakeConfig(), inputs=BakeInputs({}, checkpoint))
    if stage is Stage.ROLLOUT:
        return RolloutJob(**place, config=TargetConfig(), inputs=RolloutInputs(1, LOUD, LOUD, "model", checkpoint))
    plans = [GeneratorPlan(), GeneratorPlan(writer=WriterPlan("served", "model", checkpoint))]
    return StimJob(**place, config=TargetConfig(), inputs=StimInputs(LOUD, LOUD, plans))


@pytest.mark.parametrize("stage", [Stage.STIM, Stage.ROLLOUT, Stage.BAKE])
def test_a_bake_that_a_job_elsewhere_reads_is_not_deleted(filled: Catalog, stage: Stage) -> None:
    bakes.put(filled, USER, "repo", "bake", "default", {}, may_change=True)
    filled.store.checkpoints.add(checkpoint(filled, 8, 1))
    needed = "admin/repo/bake/8"
    job = filled.store.jobs.add(running_job(stage, needed))
    with pytest.raises(ConflictError, match=f"The {stage} of 'worker' is running and needs bake 'bake'"):
        bakes.delete(filled, USER, "repo", "bake")
    with pytest.raises(ConflictError, match=f"The {stage} of 'worker' is running and needs a bake of repo 'repo'"):
        repos.delete(filled, USER, "repo")
    assert bakes.checkpoints(filled, USER, "repo", "bake") != []
    finish(filled, job)
    repos.delete(filled, USER, "repo")
