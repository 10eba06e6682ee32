"""Rows of jobs that this version can't decode. What it can is in test_job.py, and queries in test_store.py."""

import json
import sqlite3
from pathlib import Path

import msgspec
import pytest

from baker.config.bake import bake_config
from baker.config.target import target_config
from baker.errors import StageError
from baker.status import JobState, Stage
from baker.storage.job import BakeJob, StimJob
from baker.storage.job_inputs import BakeInputs, StimInputs
from baker.storage.store import Store
from baker.types import Prompt


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two pending stims; the first one's temperature is beyond today's limit."""
    store = Store(tmp_path)
    for name in ("hot", "mild"):
        config, inputs = target_config({}), StimInputs(Prompt(), Prompt(), [])
        store.jobs.add(StimJob(user="admin", repo="repo", name=name, config=config, inputs=inputs))
    with sqlite3.connect(tmp_path / "bread.db") as db:
        db.execute("update jobs set config = ? where name = 'hot'", [json.dumps({"temperature": 9.5})])
    return store


def test_one_row_that_can_t_be_decoded_does_not_hide_the_others(store: Store) -> None:
    assert [job.name for job in store.jobs.in_state(JobState.PENDING)] == ["mild"]
    with pytest.raises(StageError, match=r"job 1, the stim of 'hot', was not stored by this version .*temperature"):
        store.jobs.find(1)
    with pytest.raises(StageError, match="job 1"):
        store.jobs.latest_stim("admin", "repo", "hot")


def test_a_row_that_is_not_json_is_named_too(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "bread.db") as db:
        db.execute("update jobs set inputs = '{' where name = 'mild'")
    assert store.jobs.in_state(JobState.PENDING) == []
    with pytest.raises(StageError, match="job 2, the stim of 'mild'"):
        store.jobs.find(2)


def test_only_what_is_asked_for_must_be_readable(store: Store) -> None:
    config, inputs = bake_config({}), BakeInputs(rollouts={}, checkpoint=None)
    job = BakeJob(user="admin", repo="repo", name="bake", state=JobState.COMPLETE, config=config, inputs=inputs)
    number = store.jobs.add(job).id
    assert store.jobs.last_completed_bake() == msgspec.structs.replace(job, id=number)
    store.jobs.update(number, config={"datasets": [{"target": "target", "weight": 1e10}]})
    assert store.jobs.last_completed_bake() is None
    assert store.jobs.state_of(number) is JobState.COMPLETE and store.jobs.state_of(number + 1) is None


def test_it_fails_with_the_reason_and_can_be_removed(store: Store) -> None:
    store.jobs.fail_undecodable()
    counts = {count.state: count.jobs for count in store.jobs.counts()}
    assert counts == {JobState.PENDING: 1, JobState.FAILED: 1}
    assert [job.name for job in store.jobs.in_state(JobState.PENDING)] == ["mild"]
    assert store.jobs.remove("admin", "repo", "hot", (Stage.STIM,)) == [1]
    assert store.jobs.numbers() == {2}
