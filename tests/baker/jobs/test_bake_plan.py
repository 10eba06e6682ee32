"""What a bake needs before it may start."""

from functools import partial
from typing import Any

import pytest

from baker.errors import InvalidInputError
from baker.history.ref_table import RefKind
from baker.jobs import plan
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.home import checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.types import Checkpoint
from baker.versions import refs
from tests.baker.grown import baked
from tests.baker.jobs.planning import put_bake, start_both
from tests.baker.repos.filled import LOUD, USER, finish, put_target, start


def test_a_rank_that_would_not_be_served_is_refused(filled: Catalog) -> None:
    put_bake(filled, model={"baked_adapter_config": {"r": 64}})
    start_both(filled)
    with pytest.raises(InvalidInputError, match=r"64.*32"):
        start(filled, Stage.BAKE, "bake")


def test_a_bake_that_can_t_be_done_here_is_refused_with_the_reason_and_leaves_nothing(filled: Catalog) -> None:
    put_bake(filled, model={"student_model_path": "org/small"})
    start_both(filled)
    with pytest.raises(InvalidInputError, match=r"can't be run here: model.student_model_path is 'org/small'"):
        start(filled, Stage.BAKE, "bake")
    assert plan.latest_job(filled, Stage.BAKE, USER, "repo", "bake") is None


def test_what_has_no_effect_is_a_warning_of_the_bake_s_job(filled: Catalog) -> None:
    put_bake(filled, activation_checkpoint_cpu_offload=True, model_name="fake/base")
    start_both(filled)
    assert "activation_checkpoint_cpu_offload" in " ".join(start(filled, Stage.BAKE, "bake").warnings)


def add_checkpoint(catalog: Catalog, job_id: int) -> Checkpoint:
    """A served checkpoint of `parent`."""
    folder = checkpoint_folder(job_folder(catalog.store.home, job_id), 3)
    checkpoint = Checkpoint(USER, "repo", "parent", 3, folder, "0" * 64, 0, job_id)
    catalog.store.checkpoints.add(checkpoint)
    return checkpoint


def test_a_bake_copies_what_it_is_made_of(filled: Catalog) -> None:
    put_bake(filled)
    rollout = start_both(filled)
    job = start(filled, Stage.BAKE, "bake")
    assert (job.depends_on, job.inputs.rollouts) == ([rollout.id], {"target": rollout.id})
    assert (job.inputs.checkpoint, job.inputs.student, job.inputs.is_own_teacher) == (None, None, True)
    assert job.inputs.targets["target"].teacher == LOUD and job.inputs.targets["target"].config.teacher_prompt == "loud"
    assert job.warnings == []


def test_targets_of_weight_0_need_no_rollout(filled: Catalog) -> None:
    put_target(filled, "idle")
    rollout = start_both(filled)
    put_bake(filled, datasets=[{"target": "target"}, {"target": "idle", "weight": 0}])
    assert start(filled, Stage.BAKE, "bake").inputs.rollouts == {"target": rollout.id}


def test_missing_and_empty_rollouts_are_refused(filled: Catalog) -> None:
    put_target(filled, "second")
    put_bake(filled, datasets=[{"target": "target"}, {"target": "second"}])
    finish(filled, start_both(filled), JobState.FAILED)
    with pytest.raises(InvalidInputError, match=r"'target' \(failed\), 'second' \(not started\)"):
        start(filled, Stage.BAKE, "bake")
    for target in ("target", "second"):
        finish(filled, start_both(filled, target), lines=0)
    with pytest.raises(InvalidInputError, match="its rollouts are empty"):
        start(filled, Stage.BAKE, "bake")


def test_a_bake_without_datasets_is_refused(filled: Catalog) -> None:
    put_bake(filled, datasets=[])
    with pytest.raises(InvalidInputError, match="has no datasets"):
        start(filled, Stage.BAKE, "bake")


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        ({}, "target 'target' was answered by 'fake/base', but the bake starts from 'admin/repo/parent/3'"),
        ({"on_policy": {"rounds": 1}}, "which also teaches during training"),
    ],
)
def test_a_bake_that_starts_from_another_model_than_its_answers_warns(
    filled: Catalog, data: dict[str, Any], warning: str
) -> None:
    put_bake(filled, "parent")
    start_both(filled)
    parent = start(filled, Stage.BAKE, "parent")
    name = add_checkpoint(filled, parent.id).name
    put_bake(filled, model={"parent_model_name": "repo/parent/3"}, data=data)
    job = start(filled, Stage.BAKE, "bake")
    assert (job.inputs.checkpoint, job.inputs.is_own_teacher) == (name, False)
    assert any("that bake is still training" in text for text in job.warnings)
    assert any(warning in text for text in job.warnings)
    finish(filled, parent)
    put_bake(filled, "later", model={"parent_model_name": "repo/parent"})
    assert not any("still training" in text for text in start(filled, Stage.BAKE, "later").warnings)


def test_a_bake_begins_from_its_branch_unless_a_parent_is_named(filled: Catalog) -> None:
    first = baked(filled, "first")
    second = baked(filled, "second", first)
    for stage in (Stage.STIM, Stage.ROLLOUT):
        finish(filled, start(filled, stage, "target"))
    put_ref = partial(refs.put, filled, USER, "repo")
    put_ref("main", RefKind.BRANCH, "second")
    put_ref("v1", RefKind.TAG, "first")

    def planned(name: str, **config: Any) -> BakeJob:
        bakes.put(
            filled, USER, "repo", name, "default", {"datasets": [{"target": "target"}], **config}, may_change=True
        )
        job = start(filled, Stage.BAKE, name)
        assert isinstance(job, BakeJob)
        return job

    on_branch = planned("a", branch="main")
    assert (on_branch.inputs.checkpoint, on_branch.inputs.branch_tip) == (second.name, second.commit_id)
    assert not any("branch" in warning for warning in on_branch.warnings)
    new = planned("b", branch="new")
    assert (new.inputs.checkpoint, new.inputs.branch_tip) == (None, None)
    elsewhere = planned("c", branch="main", model={"parent_model_name": "repo/first"})
    assert elsewhere.inputs.checkpoint == first.name
    assert any("branch 'main' will not move to the result" in warning for warning in elsewhere.warnings)
    for name, kind in (("v1", "tag"), ("first", "bake")):
        with pytest.raises(InvalidInputError, match=f"branch is '{name}', which is a {kind}"):
            planned(f"on-{name}", branch=name)
