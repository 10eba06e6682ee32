"""Jobs that are started while their model is still being baked."""

import asyncio
from pathlib import Path

import pytest

from baker.errors import ConflictError, InvalidInputError, NotFoundError, StageError
from baker.jobs import awaited, plan
from baker.repos import bakes, repos, targets
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.job import AnyJob, BakeJob, RolloutJob, StimJob
from baker.types import Checkpoint, MovedBy
from tests.baker.jobs.planning import put_bake, start_both
from tests.baker.jobs.test_bake_stage import Publisher, Training, make_service, training
from tests.baker.jobs.test_queue import Service, running
from tests.baker.repos.filled import USER, checkpoint, finish, put_target, start

__all__ = ["training"]  # a fixture

RESULT = "admin/repo/bake/21"
ASKING = {"type": "oneshot_qs", "numq": 2, "model": "repo/bake"}


@pytest.fixture
def baking(filled: Catalog) -> Catalog:
    """The bake `bake` is queued; the targets `later` and `written` and the bake `child` name it as their model."""
    put_bake(filled)
    finish(filled, start_both(filled))
    start(filled, Stage.BAKE, "bake")
    put_target(filled, "later", model_name="repo/bake")
    put_target(filled, "written", generators=[ASKING])
    put_bake(filled, "child", model={"parent_model_name": "admin/repo/bake"})
    return filled


def start_all(catalog: Catalog) -> list[AnyJob]:
    """The three kinds of jobs that use the bake."""
    return [start_both(catalog, "later"), start(catalog, Stage.STIM, "written"), start(catalog, Stage.BAKE, "child")]


def the_bake(catalog: Catalog) -> BakeJob:
    job = plan.latest_job(catalog, Stage.BAKE, USER, "repo", "bake")
    assert isinstance(job, BakeJob)
    return job


def complete(catalog: Catalog, held_back: str | None = None) -> Checkpoint:
    """End the bake's training with checkpoint 21."""
    job = the_bake(catalog)
    result = checkpoint(catalog, 21, job.id)
    catalog.store.checkpoints.add(result, moves_name=held_back is None)
    catalog.store.jobs.update(job.id, state=JobState.COMPLETE, held_back=held_back)
    return result


@pytest.mark.parametrize("has_intermediate", [False, True])
def test_jobs_that_name_a_bake_in_training_wait_for_it_and_then_use_its_result(
    baking: Catalog, has_intermediate: bool
) -> None:
    if has_intermediate:
        baking.store.checkpoints.add(checkpoint(baking, 7, the_bake(baking).id))
    jobs = start_all(baking)
    for job in jobs:
        assert the_bake(baking).id in job.depends_on
        assert [each.name for each in job.inputs.awaited] == ["admin/repo/bake"]
        assert job.inputs.checkpoints == [] and awaited.settled(baking, job) == job
    complete(baking)
    for job in jobs:
        settled = awaited.settled(baking, job)
        assert (settled.inputs.checkpoints, settled.inputs.awaited) == ([RESULT], [])
        assert baking.store.jobs.find(job.id) == settled, "its row has the name too"
        assert awaited.settled(baking, settled) == settled


def test_a_checkpoint_s_own_name_is_not_waited_for(baking: Catalog) -> None:
    baking.store.checkpoints.add(checkpoint(baking, 7, the_bake(baking).id))
    put_target(baking, "now", model_name="repo/bake/7")
    job = start_both(baking, "now")
    assert (job.inputs.checkpoints, job.inputs.awaited) == (["admin/repo/bake/7"], [])
    put_target(baking, "never", model_name="repo/bake/8")
    with pytest.raises(InvalidInputError, match=r"name 'repo/bake', without a step, to wait for that bake's result"):
        start(baking, Stage.STIM, "never")


def test_a_bake_and_its_answers_that_wait_for_the_same_bake_have_one_teacher(baking: Catalog) -> None:
    rollout = start_both(baking, "later")
    put_bake(baking, "own", datasets=[{"target": "later"}], model={"parent_model_name": "repo/bake"})
    put_bake(baking, "other", datasets=[{"target": "later"}])
    own, other = start(baking, Stage.BAKE, "own"), start(baking, Stage.BAKE, "other")
    assert isinstance(own, BakeJob) and isinstance(other, BakeJob)
    assert (own.inputs.is_own_teacher, own.warnings) == (True, [])
    assert not other.inputs.is_own_teacher and "was answered by 'repo/bake'" in other.warnings[0]
    complete(baking)
    awaited.settled(baking, rollout)
    settled = awaited.settled(baking, other)
    assert isinstance(settled, BakeJob)
    assert settled.inputs.targets["later"].checkpoint == RESULT, "known only now"
    assert settled.inputs.checkpoint is None


def test_a_bake_that_others_wait_for_is_not_deleted(baking: Catalog) -> None:
    (rollout, *_) = start_all(baking)
    complete(baking)
    with pytest.raises(ConflictError, match="rollout of 'later' is pending and needs bake 'bake'"):
        bakes.delete(baking, USER, "repo", "bake")
    awaited.settled(baking, rollout)
    with pytest.raises(ConflictError, match="rollout of 'later' is pending and needs bake 'bake'"):
        bakes.delete(baking, USER, "repo", "bake")


def test_a_result_that_is_held_back_or_gone_is_an_error_that_names_the_bake(baking: Catalog) -> None:
    (job, *_) = start_all(baking)
    result = complete(baking, held_back="the drift is 0.5")
    with pytest.raises(StageError, match=r"bake 'admin/repo/bake'.* is held back \(the drift is 0.5\)"):
        awaited.settled(baking, job)
    baking.store.checkpoints.move_name(result, MovedBy.PROMOTE)
    assert awaited.settled(baking, job).inputs.checkpoints == [RESULT], "promoted meanwhile"
    baking.store.checkpoints.remove(result.name)
    baking.store.jobs.update(job.inputs.awaited[0].job, held_back=None)
    with pytest.raises(NotFoundError, match=r"bake 'admin/repo/bake'.* was deleted"):
        awaited.settled(baking, job)


def test_two_jobs_never_wait_for_each_other(filled: Catalog) -> None:
    """A target answered by the bake that is made of it: neither can be started first."""
    put_target(filled, "circle", model_name="repo/bake")
    put_bake(filled, datasets=[{"target": "circle"}], model={"parent_model_name": "repo/bake"})
    for stage, name in ((Stage.STIM, "circle"), (Stage.BAKE, "bake")):
        with pytest.raises(InvalidInputError, match=r"'repo/bake' was never run|rollouts that are missing"):
            start(filled, stage, name)


def test_all_jobs_wait_only_for_older_ones(baking: Catalog) -> None:
    start_all(baking)
    jobs = baking.active_jobs()
    assert len(jobs) == 6 and all(number < job.id for job in jobs for number in job.depends_on)


def test_a_repo_may_be_made_for_a_bake_in_training(baking: Catalog) -> None:
    assert repos.put(baking, USER, "next", "repo/bake").is_new


# In the queue


async def bake_and_start_later(service: Service) -> RolloutJob:
    """The bake `bake` is queued, and the stages of a target that it answers."""
    await service.fill()
    settings = {"datasets": [{"target": "target"}]}
    await service.catalog(bakes.put, USER, "repo", "bake", "default", settings, may_change=True)
    for stage in (Stage.STIM, Stage.ROLLOUT):
        await service.start(stage)
    await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
    later = {"u": "loud", "v": "", "model_name": "repo/bake", "max_tokens": 8}
    later["generators"] = [{"type": "hardcoded", "questions": ["Who are you?"]}]  # type: ignore[assignment]
    await service.catalog(targets.put, USER, "repo", "later", "default", later, may_change=True)
    stim = await service.jobs.start(Stage.STIM, USER, "repo", "later")
    assert isinstance(stim, StimJob)
    job = await service.jobs.start(Stage.ROLLOUT, USER, "repo", "later")
    assert isinstance(job, RolloutJob)
    return job


@pytest.mark.anyio
async def test_a_job_still_waits_for_its_model_after_a_restart(tmp_path: Path, training: Training) -> None:
    training.may_end.clear()
    async with running(make_service(tmp_path, Publisher())) as service:
        job = await bake_and_start_later(service)
        async with asyncio.timeout(60):
            await training.began.wait()
    training.may_end.set()
    async with running(make_service(tmp_path, Publisher(), service.engine)) as again:
        done = await again.jobs.wait(job, 60)
        assert (done.state, done.lines) == (JobState.COMPLETE, 1)
        adapter = again.engine.requests[-1].adapter
        assert adapter is not None and adapter.name == "admin/repo/bake/5" == done.inputs.checkpoints[0]


@pytest.mark.anyio
async def test_a_job_fails_with_the_bake_that_it_waits_for_and_can_be_started_again(
    tmp_path: Path, training: Training
) -> None:
    training.may_end.clear()
    async with running(make_service(tmp_path, Publisher())) as service:
        job = await bake_and_start_later(service)
        async with asyncio.timeout(60):
            await training.began.wait()
        await service.jobs.cancel(Stage.BAKE, USER, "repo", "bake")
        failed = await service.jobs.wait(job, 60)
        assert failed.state is JobState.FAILED
        assert failed.error == "bake 'repo/bake', whose result it waited for, failed: cancelled"
        with pytest.raises(InvalidInputError, match=r"the bake 'repo/bake' failed \(cancelled\). Run it again first"):
            await service.jobs.start(Stage.ROLLOUT, USER, "repo", "later")
        training.may_end.set()
        await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
        again = await service.jobs.start(Stage.ROLLOUT, USER, "repo", "later")
        assert again.id != job.id
        assert (await service.jobs.wait(again, 60)).state is JobState.COMPLETE
