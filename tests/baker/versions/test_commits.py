"""Each checkpoint is a commit whose parent is the checkpoint that its bake began from."""

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from baker.history.commit import Commit, Kind, content_id
from baker.history.summary import summary
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.storage.migrations import MIGRATIONS
from baker.versions import commits, undo

PARENTS = {"second/3": "first/3", "second/5": "first/3", "third/3": "second/5", "first/3": None, "gone/1": "lost/1"}
"""Checkpoint -> the one that it began from. Rows are not in the order of descent."""


@pytest.fixture
def old_home(tmp_path: Path) -> Path:
    """A home of the version before commits."""
    db = Database(sqlite3.connect(tmp_path / "bread.db", isolation_level=None))
    MIGRATIONS.apply(db, stop_before="history")
    for number, (name, parent) in enumerate(PARENTS.items(), start=1):
        bake, step = name.split("/")
        db.execute(
            "insert into jobs (stage, user, repo, name, state, config, inputs, depends_on, lines, progress_percent, "
            "warnings, attempts, created) values ('bake', 'admin', 'repo', ?, 'complete', '{}', "
            "'{\"rollouts\": {}, \"checkpoint\": null}', '[]', 3, 100.0, '[]', 1, 0)",
            [bake],
        )
        db.execute(
            "insert into checkpoints (user, repo, bake, step, path, sha256, created, job_id, parent) "
            "values ('admin', 'repo', ?, ?, 'path', ?, 7, ?, ?)",
            [bake, step, f"hash of {name}", number, parent and f"admin/repo/{parent}"],
        )
    db.close()
    return tmp_path


def opened(home: Path) -> Catalog:
    return Catalog(home, BaseModelNames("fake/base", stands_in=True), "fingerprint")


def described(catalog: Catalog) -> dict[str, Commit]:
    known = catalog.history.commits.of_repo("admin", "repo")
    return {f"{each.bake}/{each.step}": known[each.commit_id or ""] for each in catalog.store.checkpoints.all()}


def test_checkpoints_of_an_older_version_become_commits(old_home: Path) -> None:
    catalog = opened(old_home)
    assert commits.backfill(catalog) == len(PARENTS)
    known = described(catalog)
    for name, parent in PARENTS.items():
        commit = known[name]
        assert (commit.kind, commit.base, commit.created) == (Kind.BAKE, "fingerprint", 7)
        assert commit.adapter == f"hash of {name}"
        assert commit.parent_ids == ((known[parent].id,) if parent in known else ())
    order = list(catalog.history.commits.of_repo("admin", "repo"))
    assert all(order.index(parent) < order.index(each.id) for each in known.values() for parent in each.parent_ids)
    catalog.close()


def test_the_ids_are_the_same_however_often_and_where_it_is_done(old_home: Path) -> None:
    catalog = opened(old_home)
    commits.backfill(catalog)
    first = described(catalog)
    assert commits.backfill(catalog) == 0
    catalog.close()
    db = sqlite3.connect(old_home / "bread.db")
    db.execute("update checkpoints set commit_id = null")
    db.execute("delete from commits")
    db.commit()
    db.close()
    again = opened(old_home)
    commits.backfill(again)
    assert described(again) == first
    again.close()


def test_a_recipe_is_named_by_its_content(old_home: Path) -> None:
    catalog = opened(old_home)
    commits.backfill(catalog)
    job = catalog.store.jobs.find_bake(1)
    assert job is not None
    recipe = commits.recipe_of(job)
    assert recipe is not None and recipe["targets"] == {}
    assert described(catalog)["second/3"].recipe == content_id(recipe)
    catalog.close()


def test_moves_of_an_older_version_become_operations_that_can_be_undone(old_home: Path) -> None:
    db = sqlite3.connect(old_home / "bread.db")
    for turn, (bake, step, by) in enumerate(
        [("first", 3, "bake"), ("second", 3, "bake"), ("second", 5, "promote")], start=1
    ):
        db.execute("update checkpoints set moved = ?, moved_by = ? where bake = ? and step = ?", [turn, by, bake, step])
    db.execute("insert into repos (user, name, base_model, created) values ('admin', 'repo', 'fake/base', 0)")
    db.execute("insert into bakes (user, repo, name, config, created) values ('admin', 'repo', 'second', '{}', 0)")
    db.commit()
    db.close()
    catalog = opened(old_home)
    commits.backfill(catalog)
    commits.backfill(catalog)
    operations = catalog.history.operations.of_repo("admin", "repo")
    lines = [(summary(each, {}), each.created) for each in operations]
    assert lines == [("bake first: nothing -> 3", 7), ("bake second: nothing -> 3", 7), ("promote second: 3 -> 5", 7)]
    assert operations[-1].changes[0].before["commit"] == described(catalog)["second/3"].id
    undo.apply(catalog, undo.plan(catalog, "admin", "repo", "undo"))
    (move,) = catalog.store.checkpoints.moves("admin", "repo", "second")
    assert move.checkpoint.step == 3
    catalog.close()
