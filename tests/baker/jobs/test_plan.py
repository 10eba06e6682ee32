"""Which requests start a job, and which get the existing one."""

import pytest

from baker.errors import InvalidInputError, NotFoundError
from baker.jobs import plan
from baker.repos import prompts
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.types import Prompt
from tests.baker.jobs.planning import put_bake, start_both
from tests.baker.repos.filled import LOUD, USER, finish, start


def test_a_job_that_runs_or_is_done_is_the_answer_to_another_start(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    assert start(filled, Stage.STIM, "target").id == job.id
    finish(filled, job)
    assert start(filled, Stage.STIM, "target").state is JobState.COMPLETE


def test_a_failed_job_starts_again_but_not_for_a_repeat_of_the_same_request(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target", key="k1")
    finish(filled, job, JobState.FAILED)
    assert start(filled, Stage.STIM, "target", key="k1").id == job.id
    again = start(filled, Stage.STIM, "target", key="k2")
    assert again.id > job.id
    assert again.state is JobState.PENDING


def test_a_stage_out_of_order_is_refused_and_leaves_nothing(filled: Catalog) -> None:
    with pytest.raises(InvalidInputError, match="run stim first"):
        start(filled, Stage.ROLLOUT, "target")
    put_bake(filled)
    with pytest.raises(InvalidInputError, match="'target' \\(not started\\)"):
        start(filled, Stage.BAKE, "bake")
    assert filled.store.jobs.numbers() == set()


def test_stages_may_be_started_in_a_row(filled: Catalog) -> None:
    put_bake(filled)
    stim = start(filled, Stage.STIM, "target")
    rollout = start(filled, Stage.ROLLOUT, "target")
    bake = start(filled, Stage.BAKE, "bake")
    assert (rollout.depends_on, bake.depends_on) == ([stim.id], [rollout.id])


def test_a_job_keeps_the_prompts_it_began_with(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    prompts.put(filled, USER, "repo", "loud", Prompt(), may_change=True)
    kept = filled.store.jobs.find(job.id)
    assert kept is not None
    assert kept.inputs.teacher.messages == LOUD.messages


def test_a_bake_that_was_held_back_runs_again_only_with_another_config(filled: Catalog) -> None:
    put_bake(filled, publish_if={"max_drift": 0.0})
    finish(filled, start_both(filled))
    first = start(filled, Stage.BAKE, "bake")
    filled.store.jobs.update(first.id, state=JobState.COMPLETE, held_back="drift 0.1")
    assert start(filled, Stage.BAKE, "bake").id == first.id
    put_bake(filled, publish_if={"max_drift": 0.2})
    assert start(filled, Stage.BAKE, "bake").id > first.id


@pytest.mark.parametrize("stage", Stage)
def test_a_target_or_bake_that_does_not_exist_has_no_jobs(filled: Catalog, stage: Stage) -> None:
    with pytest.raises(NotFoundError, match="'gone'"):
        plan.latest_job(filled, stage, USER, "repo", "gone")
    with pytest.raises(NotFoundError, match="'gone'"):
        start(filled, stage, "gone")
