"""Bakes: added, changed, removed."""

from typing import Any, Literal

import msgspec
import pytest

from baker.errors import ConflictError, NotFoundError
from baker.repos import bakes, targets
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import MovedBy
from tests.baker.repos.filled import USER, checkpoint, filled, finish, put_target, start

__all__ = ["filled"]  # a fixture


def test_a_bake_may_be_added_again_with_the_same_settings(filled: Catalog) -> None:
    for is_new in (True, False):
        put = bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=False)
        assert put.is_new is is_new


def test_a_bake_of_a_missing_target_is_refused(filled: Catalog) -> None:
    with pytest.raises(NotFoundError, match="'gone'"):
        bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "gone"}]}, may_change=True)
    assert filled.names("bakes", USER, "repo") == []


def test_a_config_of_an_older_version_counts_as_the_same(filled: Catalog) -> None:
    bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True)
    finish(filled, start(filled, Stage.STIM, "target"))
    stored: dict[str, Any] = {
        "teacher_prompt": "loud",
        "student_prompt": "plain",
        "generators": [{"type": "hardcoded", "questions": ["One?", "Two?"], "numq": None}],
    }
    filled.store.put_config("targets", USER, "repo", "target", stored)
    filled.store.put_config("bakes", USER, "repo", "bake", {"datasets": [{"target": "target"}]})
    put_target(filled, max_concurrency=10)
    bake = {"datasets": [{"target": "target", "weight": 1.0}], "seed": 42}
    assert not bakes.put(filled, USER, "repo", "bake", "default", bake, may_change=False).is_new
    assert filled.store.config("targets", USER, "repo", "target") == stored
    with pytest.raises(ConflictError):
        put_target(filled, max_concurrency=9)


@pytest.mark.parametrize("table", ["targets", "bakes"])
def test_a_config_that_was_stored_before_a_setting_existed_is_still_the_same(
    filled: Catalog, table: Literal["targets", "bakes"]
) -> None:
    """bgit sends its targets and bakes again on every run, so also after an update of the service."""
    put = targets.put if table == "targets" else bakes.put
    put(filled, USER, "repo", "old", "default", {}, may_change=False)
    config = filled.store.config(table, USER, "repo", "old")
    assert config is not None
    config.pop("max_concurrency" if table == "targets" else "wandb")
    filled.store.put_config(table, USER, "repo", "old", config)
    assert not put(filled, USER, "repo", "old", "default", {}, may_change=False).is_new


@pytest.mark.parametrize("prune", [True, False])
def test_deleting_a_bake_deletes_its_checkpoints(filled: Catalog, prune: bool) -> None:
    bakes.put(filled, USER, "repo", "bake", "default", {}, may_change=True)
    config = bakes.get(filled, USER, "repo", "bake")
    job = BakeJob(user=USER, repo="repo", name="bake", config=config, inputs=BakeInputs({}, None))
    job = filled.store.jobs.add(msgspec.structs.replace(job, state=JobState.COMPLETE))
    filled.store.checkpoints.add(checkpoint(filled, 8, job.id))
    deletion = bakes.delete(filled, USER, "repo", "bake", prune=prune)
    assert deletion.removed == ([job.id] if prune else [])
    assert bakes.checkpoints(filled, USER, "repo", "bake") == []


def test_the_live_checkpoint_comes_first(filled: Catalog) -> None:
    old, new = checkpoint(filled, 8, 1), checkpoint(filled, 3, 2)
    filled.store.checkpoints.add(old)
    filled.store.checkpoints.add(new, moves_name=False)
    assert bakes.checkpoints(filled, USER, "repo", "bake") == [new, old]
    assert bakes.live_first(filled, USER, "repo", "bake") == (old, [old, new])
    assert bakes.find_checkpoint(filled, USER, "repo", "bake", 3) == new
    assert bakes.find_checkpoint(filled, USER, "repo", "bake", None) == old
    assert bakes.live_first(filled, USER, "repo", "nothing") == (None, [])
    newest = checkpoint(filled, 5, 3)
    filled.store.checkpoints.add(newest)
    filled.store.checkpoints.move_name(new, MovedBy.PROMOTE)
    assert bakes.all_live_first(filled, USER, "repo") == {"bake": [new.step, newest.step, old.step]}
    assert bakes.live_first(filled, USER, "repo", "bake").checkpoints == [new, newest, old]
