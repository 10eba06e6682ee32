"""What a stage needs before it may start, and when a job is started again."""

import pytest

from baker.errors import InvalidInputError
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.repos import bakes, prompts
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.types import Prompt
from tests.baker.repos.filled import LOUD, POLICY, USER, filled, finish, put_target, start

__all__ = ["filled"]  # a fixture


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
    bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True)
    with pytest.raises(InvalidInputError, match="'target' \\(not started\\)"):
        start(filled, Stage.BAKE, "bake")
    assert filled.store.jobs.numbers() == set()


def test_stages_may_be_started_in_a_row(filled: Catalog) -> None:
    bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True)
    stim = start(filled, Stage.STIM, "target")
    rollout = start(filled, Stage.ROLLOUT, "target")
    bake = start(filled, Stage.BAKE, "bake")
    assert (rollout.depends_on, bake.depends_on) == ([stim.id], [rollout.id])


def test_a_missing_prompt_is_named_with_those_that_there_are(filled: Catalog) -> None:
    put_target(filled, "typo", u="lowd")
    with pytest.raises(InvalidInputError, match=r"'lowd'.*'loud', 'plain'"):
        start(filled, Stage.STIM, "typo")
    put_target(filled, "half", v=None)
    with pytest.raises(InvalidInputError, match="no student_prompt"):
        start(filled, Stage.STIM, "half")


def test_a_job_keeps_the_prompts_it_began_with(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    prompts.put(filled, USER, "repo", "loud", Prompt(), may_change=True)
    kept = filled.store.jobs.find(job.id)
    assert kept is not None
    assert kept.inputs.teacher.messages == LOUD.messages


@pytest.mark.parametrize(
    ("policy", "kind", "warned"),
    [
        (POLICY, "served", True),
        (Policy(has_anthropic_key=True, stim_fallback=False, max_lora_rank=32), "anthropic", False),
    ],
)
def test_a_claude_generator_needs_a_key_or_a_stand_in(filled: Catalog, policy: Policy, kind: str, warned: bool) -> None:
    put_target(filled, generators=[{"type": "oneshot_qs", "model": "claude-3-5-sonnet-20241022"}])
    job = start(filled, Stage.STIM, "target", policy=policy)
    assert job.inputs.generators[0].writer.kind == kind
    assert bool(job.warnings) is warned


def test_a_claude_generator_is_refused_when_the_operator_wants_no_stand_in(filled: Catalog) -> None:
    put_target(filled, generators=[{"type": "oneshot_qs", "model": "claude-3-5-sonnet-20241022"}])
    with pytest.raises(InvalidInputError, match="ANTHROPIC_API_KEY"):
        start(filled, Stage.STIM, "target", policy=Policy(False, False, 32))


def test_a_rank_that_would_not_be_served_is_refused(filled: Catalog) -> None:
    overrides = {"datasets": [{"target": "target"}], "model": {"baked_adapter_config": {"r": 64}}}
    bakes.put(filled, USER, "repo", "bake", "default", overrides, may_change=True)
    start(filled, Stage.STIM, "target")
    start(filled, Stage.ROLLOUT, "target")
    with pytest.raises(InvalidInputError, match=r"64.*32"):
        start(filled, Stage.BAKE, "bake")


def test_a_bake_that_can_t_be_done_here_is_refused_with_the_reason_and_leaves_nothing(filled: Catalog) -> None:
    overrides = {"datasets": [{"target": "target"}], "model": {"student_model_path": "org/small"}}
    bakes.put(filled, USER, "repo", "bake", "default", overrides, may_change=True)
    start(filled, Stage.STIM, "target")
    start(filled, Stage.ROLLOUT, "target")
    with pytest.raises(InvalidInputError, match=r"can't be run here: model.student_model_path is 'org/small'"):
        start(filled, Stage.BAKE, "bake")
    assert plan.latest_job(filled, Stage.BAKE, USER, "repo", "bake") is None


def test_what_has_no_effect_is_a_warning_of_the_bake_s_job(filled: Catalog) -> None:
    overrides = {
        "datasets": [{"target": "target"}],
        "activation_checkpoint_cpu_offload": True,
        "model_name": "fake/base",
    }
    bakes.put(filled, USER, "repo", "bake", "default", overrides, may_change=True)
    start(filled, Stage.STIM, "target")
    start(filled, Stage.ROLLOUT, "target")
    assert "activation_checkpoint_cpu_offload" in " ".join(start(filled, Stage.BAKE, "bake").warnings)
