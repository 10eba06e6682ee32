"""Databases of older versions, opened by this one."""

import sqlite3
from pathlib import Path

from sqlite_utils import Database

from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.migrations import MIGRATIONS


def test_failed_jobs_of_before_have_no_error_code_and_new_ones_keep_theirs(tmp_path: Path) -> None:
    db = Database(sqlite3.connect(tmp_path / "bread.db", isolation_level=None))
    MIGRATIONS.apply(db, stop_before="error_codes")
    target = '{"teacher_prompt": "", "student_prompt": ""}'
    inputs = '{"teacher": {}, "student": {}, "generators": []}'
    for error in ("it broke", None):
        db.execute(
            "insert into jobs (stage, user, repo, name, state, config, inputs, depends_on, lines, progress_percent, "
            "error, warnings, attempts, created) values ('stim', 'admin', 'repo', 'target', ?, ?, ?, '[]', 3, 50.0, ?, "
            "'[]', 1, 0)",
            ["pending" if error is None else "failed", target, inputs, error],
        )
    db.close()
    catalog = Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True))
    old, pending = catalog.store.jobs.in_state(JobState.FAILED, JobState.PENDING)
    assert (old.error, old.error_code, old.lines) == ("it broke", None, 3)
    catalog.store.jobs.update(pending.id, state=JobState.FAILED, error="cancelled", error_code="CANCELLED")
    failed = catalog.store.jobs.find(pending.id)
    assert failed is not None and (failed.error, failed.error_code) == ("cancelled", "CANCELLED")
    catalog.close()
