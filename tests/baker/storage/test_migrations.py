"""Databases of older versions, opened by this one."""

import sqlite3
from pathlib import Path

import msgspec
from sqlite_utils import Database

from baker.history.operation_table import PURGED, Change, PointerMove, target_of
from baker.model_names import BaseModelNames
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.migrations import MIGRATIONS
from baker.versions.recipe import recipe


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


def test_bakes_of_before_know_their_parents_and_who_answered_their_targets(tmp_path: Path) -> None:
    db = Database(sqlite3.connect(tmp_path / "bread.db", isolation_level=None))
    MIGRATIONS.apply(db, stop_before="records_of_deleted_bakes")
    prompt, parent = "{}", "admin/repo/first/3"
    target = '{"teacher_prompt": "", "student_prompt": ""}'
    snapshot = f'{{"config": {target}, "teacher": {prompt}, "student": {prompt}}}'
    for stage, name, config, inputs in (
        ("rollout", "own", target, '{"stim_job": 0, "teacher": {}, "student": {}, "model": "m", "checkpoint": null}'),
        (
            "rollout",
            "t",
            target,
            f'{{"stim_job": 0, "teacher": {{}}, "student": {{}}, "model": "m", "checkpoint": "{parent}"}}',
        ),
        ("bake", "first", "{}", '{"rollouts": {}, "checkpoint": null}'),
        (
            "bake",
            "second",
            "{}",
            f'{{"rollouts": {{"own": 1, "t": 2, "gone": 9}}, "checkpoint": "{parent}", '
            f'"targets": {{"own": {snapshot}, "t": {snapshot}, "gone": {snapshot}}}}}',
        ),
    ):
        db.execute(
            "insert into jobs (stage, user, repo, name, state, config, inputs, depends_on, lines, progress_percent, "
            "warnings, attempts, created) values (?, 'admin', 'repo', ?, 'complete', ?, ?, '[]', 3, 100.0, '[]', 1, 0)",
            [stage, name, config, inputs],
        )
    for bake, job_id in (("first", 3), ("second", 4)):
        db.execute(
            "insert into checkpoints (user, repo, bake, step, path, sha256, created, job_id) "
            "values ('admin', 'repo', ?, 3, 'path', '', 0, ?)",
            [bake, job_id],
        )
        db.execute("insert into bakes (user, repo, name, config, created) values ('admin', 'repo', ?, '{}', 0)", [bake])
    db.execute("insert into repos (user, name, base_model, created) values ('admin', 'repo', 'fake/base', 0)")
    db.close()
    catalog = Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True))
    parents = {row.name: row.parent for row in catalog.store.checkpoints.all()}
    assert parents == {parent: None, "admin/repo/second/3": parent}
    second = catalog.store.jobs.latest_bake("admin", "repo", "second")
    assert second is not None
    answered = {target: snapshot.checkpoint for target, snapshot in second.inputs.targets.items()}
    assert answered == {"own": None, "t": parent, "gone": None}
    bakes.delete(catalog, "admin", "repo", "first")
    assert list(recipe(catalog, "admin", "repo", "second").deleted) == ["first"]
    catalog.close()


def test_the_moves_of_operations_of_before_are_known(tmp_path: Path) -> None:
    db = Database(sqlite3.connect(tmp_path / "bread.db", isolation_level=None))
    MIGRATIONS.apply(db, stop_before="moves_of_pointers")
    changes = [
        [Change("bake", "yoda", None, {"step": 3, "commit": "a"}), Change("prompt", "p", None, {"target": "x"})],
        [
            Change("branch", "main", {"target": "a"}, {"target": "b", "commit": "c"}),
            Change("head", "HEAD", None, "main"),
        ],
        [Change("tag", "v1", PURGED, {"commit": None}), Change("bake", "lost", "a", 7)],
    ]
    for each in changes:
        text = msgspec.json.encode(each).decode()
        db.execute(
            "insert into operations (user, repo, verb, changes, by, created, is_undoable) "
            "values ('admin', 'repo', 'bake', ?, 'admin', 0, 1)",
            [text],
        )
    db.close()
    catalog = Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True))
    assert catalog.history.operations.moves("admin", "repo") == [
        PointerMove(change.kind, change.name, target_of(change.before), target_of(change.after))
        for each in changes
        for change in each
        if change.kind != "prompt"
    ]
    catalog.close()
