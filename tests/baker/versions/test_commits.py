"""Each checkpoint is a commit whose parent is the checkpoint that its bake began from."""

import sqlite3
from pathlib import Path

import msgspec
import pytest
from sqlite_utils import Database

from baker.config.bake import BakeConfig
from baker.history.commit import Commit, Kind, content_id
from baker.history.summary import summary
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.status import Loss
from baker.storage.migrations import MIGRATIONS
from baker.versions import commits, undo
from tests.baker.grown import baked, merged

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


def test_the_recipe_stays_as_it_was_when_later_versions_add_settings(old_home: Path) -> None:
    catalog = opened(old_home)
    commits.backfill(catalog)
    job = catalog.store.jobs.find_bake(1)
    assert job is not None
    later = msgspec.structs.replace(job, config=msgspec.structs.replace(job.config, seed=1234))
    recipe = commits.recipe_of(later)
    assert recipe is not None and content_id(recipe) == described(catalog)["second/3"].recipe
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


def test_a_bake_s_message_and_evaluation_are_with_its_commit(catalog: Catalog) -> None:
    loss = Loss(eval_kl_before=0.5, eval_kl=0.05, recovered=0.9, drift=0.01)
    checkpoint = baked(catalog, "bake", steps=(1, 3), config=BakeConfig(message="Hmm, yes"), loss=loss)
    commits_ = catalog.history.commits
    known = list(commits_.of_repo("admin", "repo").values())
    assert [commit.message for commit in known] == ["Hmm, yes", "Hmm, yes"]
    evaluation = {"eval_kl_before": 0.5, "eval_kl": 0.05, "recovered": 0.9, "drift": 0.01}
    assert commits_.all_notes("admin", "repo") == {checkpoint.commit_id: {"evaluation": evaluation}}


def test_a_recipe_does_not_depend_on_how_the_result_is_named(catalog: Catalog) -> None:
    one = baked(catalog, "one", config=BakeConfig(message="text", branch="main"))
    other = baked(catalog, "other")
    jobs = [catalog.store.jobs.find_bake(each.job_id) for each in (one, other)]
    recipes = [commits.recipe_of(job) for job in jobs if job is not None]
    assert recipes[0] == recipes[1] is not None


def test_results_of_an_older_version_get_their_evaluation_as_a_note(old_home: Path) -> None:
    db = sqlite3.connect(old_home / "bread.db")
    db.execute("update jobs set loss = ? where name = 'second'", ['{"eval_kl": 0.25, "recovered": 0.5}'])
    db.execute("update checkpoints set job_id = 1 where bake = 'second'")
    db.execute("update jobs set loss = ? where id = 1", ['{"eval_kl": 0.25, "recovered": 0.5}'])
    db.commit()
    db.close()
    catalog = opened(old_home)
    commits.backfill(catalog)
    known = {f"{each.bake}/{each.step}": each.commit_id for each in catalog.store.checkpoints.all()}
    notes = catalog.history.commits.all_notes("admin", "repo")
    assert notes == {known["second/5"]: {"evaluation": {"eval_kl": 0.25, "recovered": 0.5}}}, "of the last checkpoint"
    catalog.close()


def test_a_parent_in_another_repo_comes_with_its_ancestors_and_their_notes(catalog: Catalog) -> None:
    root = baked(catalog, "root", repo="library", loss=Loss(recovered=0.5))
    parent = baked(catalog, "parent", root, repo="library")
    child = baked(catalog, "child", parent)
    known = catalog.history.commits.of_repo("admin", "repo")
    assert list(known) == [root.commit_id, parent.commit_id, child.commit_id]
    assert catalog.history.commits.notes("admin", "repo", root.commit_id or "") == {"evaluation": {"recovered": 0.5}}


def test_two_merges_of_different_versions_never_have_one_recipe(catalog: Catalog) -> None:
    for name in ("a", "b", "c"):
        baked(catalog, name)
    first = merged(catalog, "first", "a", "b")
    baked(catalog, "b")  # the name means another version now
    second = merged(catalog, "second", "a", "b")
    weighted = merged(catalog, "weighted", "a", "b", weights=[1.0, 0.5])
    picked = merged(catalog, "picked", "a", "b", kind="cherry_pick")
    from_c = merged(catalog, "from_c", "a", "b", base="c")
    recipes = []
    for each in (first, second, weighted, picked, from_c):
        commit = catalog.history.commits.find("admin", "repo", each.commit_id or "")
        assert commit is not None
        recipes.append(commit.recipe)
    assert len(set(recipes)) == 5
    job = catalog.store.jobs.find_bake(first.job_id)
    assert job is not None and (recipe := commits.recipe_of(job)) is not None
    assert job.inputs.merge is not None
    assert recipe["merge"] == {
        "kind": "merge",
        "strategy": "auto",
        "base": None,
        "sides": [{"commit": side.commit, "weight": 1.0} for side in job.inputs.merge.sides],
    }
