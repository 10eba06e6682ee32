"""Rows of jobs that this version can't decode. What it can is in test_job.py, and queries in test_store.py."""

import json
import sqlite3
from pathlib import Path

import pytest

from baker.config.target import target_config
from baker.errors import StageError
from baker.status import JobState, Stage
from baker.storage.job import StimJob
from baker.storage.job_inputs import StimInputs
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
    with pytest.raises(StageError, match=r"job 1, the stim of 'hot', was stored by .* other limits .*temperature"):
        store.jobs.find(1)
    with pytest.raises(StageError, match="job 1"):
        store.jobs.latest_stim("admin", "repo", "hot")


def test_it_fails_with_the_reason_and_can_be_removed(store: Store) -> None:
    store.jobs.fail_undecodable()
    counts = {count.state: count.jobs for count in store.jobs.counts()}
    assert counts == {JobState.PENDING: 1, JobState.FAILED: 1}
    assert [job.name for job in store.jobs.in_state(JobState.PENDING)] == ["mild"]
    assert store.jobs.remove("admin", "repo", "hot", (Stage.STIM,)) == [1]
    assert store.jobs.numbers() == {2}
