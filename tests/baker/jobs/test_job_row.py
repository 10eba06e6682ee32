"""A running job's row."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from baker.jobs.job_row import JobRow
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.storage.job import AnyJob
from baker.storage.one_thread import OneThread
from tests.baker.repos.filled import start

pytestmark = pytest.mark.anyio


@pytest.fixture
async def opened(tmp_path: Path, filled: Catalog) -> AsyncIterator[OneThread[Catalog]]:
    start(filled, Stage.STIM, "target")
    filled.close()
    catalog = OneThread(lambda: Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True)), "store")
    yield catalog
    catalog.close(Catalog.close)


async def job_of(catalog: OneThread[Catalog]) -> AnyJob:
    job = await catalog(lambda on: on.store.jobs.find(1))
    assert job is not None
    return job


async def test_progress_is_the_share_of_finished_items(opened: OneThread[Catalog]) -> None:
    row = JobRow(opened, 1)
    await row.set_progress(1, 3, total_expected=3)
    job = await job_of(opened)
    assert (job.lines, job.progress_percent, job.total_expected) == (1, 33.3, 3)
    await row.set_progress(0, 0)
    assert (await job_of(opened)).progress_percent == 0.0


async def test_a_warning_is_added_once(opened: OneThread[Catalog]) -> None:
    row = JobRow(opened, 1)
    for message in ("first", "second", "first"):
        await row.warn(message)
    assert (await job_of(opened)).warnings == ["first", "second"]
    await JobRow(opened, 99).warn("of a removed job")


async def test_a_note_that_can_t_be_written_is_only_logged(
    opened: OneThread[Catalog], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    row = JobRow(opened, 1)
    await row.note(attempts=1)
    assert (await job_of(opened)).attempts == 1

    def full(*_: Any, **changes: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Catalog, "update_job", full)
    await row.note(attempts=2)
    assert "job 1: its progress can't be written: database or disk is full" in caplog.text
