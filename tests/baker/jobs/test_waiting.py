"""Which pending jobs can run, which never will, and what the others wait for."""

import sqlite3
from typing import Any

import pytest

from baker.jobs.waiting import clocks, sort_pending, waiting_for
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from tests.baker.jobs.planning import put_bake, start_both
from tests.baker.repos.filled import finish, put_target, start


def state(catalog: Catalog, number: int) -> tuple[str, str | None, str | None]:
    job = catalog.store.jobs.find(number)
    assert job is not None
    return job.state, job.error, job.error_code


def test_jobs_with_complete_inputs_are_ready_oldest_first(filled: Catalog) -> None:
    put_target(filled, "second")
    first, second = (start(filled, Stage.STIM, name) for name in ("target", "second"))
    rollout = start(filled, Stage.ROLLOUT, "target")
    assert [job.id for job in sort_pending(filled).ready] == [first.id, second.id]
    finish(filled, first)
    assert [job.id for job in sort_pending(filled).ready] == [second.id, rollout.id]


def test_a_failure_reaches_everything_behind_it_at_once(filled: Catalog) -> None:
    put_bake(filled)
    rollout = start_both(filled)
    bake = start(filled, Stage.BAKE, "bake")
    put_target(filled, "later", model_name="repo/bake")
    later = start_both(filled, "later")
    finish(filled, filled.store.jobs.find(rollout.depends_on[0]), JobState.FAILED)  # type: ignore[arg-type]
    assert sort_pending(filled).failed == [rollout.id, bake.id, later.id]
    stim_failed = "the stim of target 'target' failed: broken"
    assert state(filled, rollout.id) == ("failed", stim_failed, "STAGE_FAILED")
    rollout_failed = f"the rollout of target 'target' failed: {stim_failed}"
    assert state(filled, bake.id) == ("failed", rollout_failed, "STAGE_FAILED")
    bake_failed = f"bake 'repo/bake', whose result it waited for, failed: {rollout_failed}"
    assert state(filled, later.id) == ("failed", bake_failed, "STAGE_FAILED")


def test_a_job_whose_bake_was_removed_names_it(filled: Catalog) -> None:
    put_bake(filled)
    finish(filled, start_both(filled))
    bake = start(filled, Stage.BAKE, "bake")
    put_target(filled, "later", model_name="repo/bake")
    later = start_both(filled, "later")
    filled.store.jobs.remove("admin", "repo", "bake", (Stage.BAKE,))
    sort_pending(filled)
    assert filled.store.jobs.find(bake.id) is None
    error = "bake 'admin/repo/bake', whose result it waited for, was deleted"
    assert state(filled, later.id) == ("failed", error, "RESOURCE_NOT_FOUND")


def test_a_full_disk_leaves_the_job_pending(filled: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = start_both(filled)
    finish(filled, filled.store.jobs.find(rollout.depends_on[0]), JobState.FAILED)  # type: ignore[arg-type]

    def full(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(filled.store.jobs, "update", full)
    assert sort_pending(filled) == ([], [])
    assert state(filled, rollout.id)[0] == "pending"


def test_a_pending_job_says_what_it_waits_for(filled: Catalog) -> None:
    put_bake(filled)
    rollout = start_both(filled)
    bake = start(filled, Stage.BAKE, "bake")
    filled.store.jobs.update(rollout.depends_on[0], state=JobState.RUNNING, progress_percent=41.6)
    (stim,) = waiting_for(filled, rollout)
    assert (stim.kind, stim.name) == ("stim", "repo/target")
    assert stim.text == "It waits for the stim of 'repo/target', which is running, at 42 %."
    put_target(filled, "later", model_name="repo/bake")
    later = start_both(filled, "later")
    assert [(each.kind, each.name) for each in waiting_for(filled, later)] == [
        ("stim", "repo/later"),
        ("bake", "repo/bake"),
    ]
    finish(filled, bake)
    assert [each.kind for each in waiting_for(filled, later)] == ["stim"]


def test_time_in_the_queue_and_time_at_work_are_apart(filled: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    job = start(filled, Stage.STIM, "target")

    def seen() -> tuple[float | None, float | None]:
        row = filled.store.jobs.find(job.id)
        assert row is not None
        return clocks(row)

    assert seen() == (0.0, 0.0)
    now = 1010.0
    filled.store.jobs.update(job.id, state=JobState.RUNNING, started=now)
    now = 1015.0
    assert seen() == (10.0, 5.0)
    filled.store.jobs.stop_clock(job.id)
    now = 1035.0
    assert seen() == (30.0, 5.0), "it waits again"
    filled.store.jobs.update(job.id, started=now)
    now = 1036.0
    filled.store.jobs.fail(job.id, "broken", "STIM_FAILED")
    now = 2000.0
    assert seen() == (30.0, 6.0)
    filled.store.jobs.update(job.id, worked_seconds=None)
    assert seen() == (None, None), "a job of an older version"
