"""What stays of deleted bakes, how long, and that no name leads to it."""

from pathlib import Path

import msgspec

from baker.repos import bakes, records, repos, targets, users
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.home import job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint
from baker.versions import checkpoints, imports
from tests.baker.repos.filled import filled, finish, put_target, start
from tests.baker.repos.test_users import add as add_user

__all__ = ["filled"]  # a fixture


def add_bake(catalog: Catalog, name: str, step: int, parent: str | None = None, repo: str = "repo") -> Checkpoint:
    """A complete bake with one checkpoint."""
    bakes.put(catalog, "admin", repo, name, "default", {}, may_change=False)
    inputs, config = BakeInputs({}, parent), bakes.get(catalog, "admin", repo, name)
    job = BakeJob(user="admin", repo=repo, name=name, state=JobState.COMPLETE, config=config, inputs=inputs)
    job = catalog.store.jobs.add(job)
    folder = job_folder(catalog.store.home, job.id) / "checkpoints" / str(step)
    row = Checkpoint("admin", repo, name, step, folder, "0" * 64, 0, job.id, parent=parent)
    catalog.store.checkpoints.add(row)
    return row


def delete(catalog: Catalog, name: str) -> list[int]:
    """For good: what is in the bin counts as existing."""
    return bakes.delete(catalog, "admin", "repo", name, prune=True).removed


def recorded(catalog: Catalog) -> dict[int, str]:
    return records.labels(catalog, "admin", "repo")


def test_a_bake_without_children_leaves_nothing(filled: Catalog) -> None:
    row = add_bake(filled, "bake", 3)
    assert delete(filled, "bake") == [row.job_id]
    assert recorded(filled) == {} and filled.store.jobs.find(row.job_id) is None
    assert filled.store.checkpoints.deleted() == {}


def test_a_record_stays_through_all_generations_until_the_last_child_goes(filled: Catalog) -> None:
    first = add_bake(filled, "first", 3)
    second = add_bake(filled, "second", 4, first.name)
    third, cousin = (add_bake(filled, name, 5, second.name) for name in ("third", "cousin"))
    assert delete(filled, "first") == [first.job_id]
    assert delete(filled, "second") == [second.job_id]
    assert recorded(filled) == {first.job_id: "first", second.job_id: "second"}
    assert delete(filled, "third") == [third.job_id]
    assert recorded(filled) == {first.job_id: "first", second.job_id: "second"}
    assert delete(filled, "cousin") == [cousin.job_id, first.job_id, second.job_id]
    assert recorded(filled) == {} and filled.store.checkpoints.deleted() == {}
    assert filled.store.jobs.numbers() == set()


def test_no_name_means_a_record_and_the_name_is_free(filled: Catalog) -> None:
    old = add_bake(filled, "bake", 3)
    add_bake(filled, "child", 4, old.name)
    delete(filled, "bake")
    assert filled.store.jobs.latest_bake("admin", "repo", "bake") is None
    assert bakes.find_checkpoint(filled, "admin", "repo", "bake", 3) is None
    assert bakes.find_checkpoint(filled, "admin", "repo", "bake", None) is None
    new = add_bake(filled, "bake", 9)
    assert filled.store.jobs.latest_bake("admin", "repo", "bake") == filled.store.jobs.find(new.job_id)
    assert recorded(filled) == {old.job_id: f"bake.deleted-{old.job_id}"}
    job = filled.store.jobs.find_bake(new.job_id)
    assert job is not None and bakes.job_before(filled, job) is None, "it doesn't continue the deleted one's training"
    record = records.find(filled, "admin", "repo", f"bake.deleted-{old.job_id}")
    assert record is not None and record.id == old.job_id and record.deleted is not None


def test_a_checkpoint_s_name_is_never_given_again_while_something_came_from_it(filled: Catalog) -> None:
    old = add_bake(filled, "bake", 3)
    add_bake(filled, "child", 4, old.name)
    delete(filled, "bake")
    new = add_bake(filled, "bake", 9)
    job = filled.store.jobs.find_bake(new.job_id)
    assert job is not None
    folders = [job_folder(filled.store.home, job.id) / "checkpoints" / str(step) for step in (2, 3)]
    assert checkpoints.numbers(filled, job, folders) == [2, 4]
    delete(filled, "child")
    assert checkpoints.numbers(filled, job, folders) == [2, 3]


def test_a_pruned_checkpoint_that_a_bake_began_from_leaves_its_name(filled: Catalog) -> None:
    old = add_bake(filled, "bake", 3)
    job = filled.store.jobs.find_bake(old.job_id)
    assert job is not None
    for step in (5, 7):
        row = Checkpoint("admin", "repo", "bake", step, old.path.with_name(str(step)), "0" * 64, 0, job.id)
        filled.store.checkpoints.add(row)
    child = add_bake(filled, "child", 4, old.name)
    assert [row.step for row in checkpoints.prune(filled, job, 1)] == [5, 3]
    assert filled.store.checkpoints.deleted() == {old.name: job.id}, "nothing came from the other one"
    delete(filled, "bake")
    assert recorded(filled) == {job.id: "bake"}
    assert delete(filled, "child") == [child.job_id, job.id]


def test_a_target_that_a_bake_answered_keeps_its_record(filled: Catalog) -> None:
    old = add_bake(filled, "bake", 3)
    put_target(filled, "answered", model_name="repo/bake")
    stim = start(filled, Stage.STIM, "answered")
    finish(filled, start(filled, Stage.ROLLOUT, "answered"))
    finish(filled, stim)
    delete(filled, "bake")
    assert recorded(filled) == {old.job_id: "bake"}
    assert old.job_id in targets.delete(filled, "admin", "repo", "answered", prune=True).removed
    assert recorded(filled) == {}


def test_the_parents_of_bakes_in_other_repos_outlive_their_repo(filled: Catalog) -> None:
    old = add_bake(filled, "bake", 3)
    repos.put(filled, "admin", "other", None)
    add_bake(filled, "child", 4, old.name, repo="other")
    assert repos.delete(filled, "admin", "repo") == [old.job_id]
    repos.put(filled, "admin", "repo", None)
    assert bakes.checkpoints(filled, "admin", "repo", "bake") == []
    assert recorded(filled) == {old.job_id: "bake"}
    assert repos.delete(filled, "admin", "other")[-1] == old.job_id
    assert recorded(filled) == {}


def test_an_imported_adapter_that_a_bake_began_from_keeps_its_record(filled: Catalog, tmp_path: Path) -> None:
    def load() -> Checkpoint:
        files = tmp_path / "adapter"
        files.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (files / name).write_text("{}")
        return imports.keep(filled, "admin", "repo", "got", files, "elsewhere", [], may_replace=False)

    first = load()
    add_bake(filled, "child", 4, first.name)
    imports.remove(filled, "admin", "repo", "got")
    assert recorded(filled) == {first.job_id: "got"}
    second = load()
    assert second.step > first.step
    assert recorded(filled) == {first.job_id: f"got.deleted-{first.job_id}"}


def test_nothing_of_a_removed_user_stays(filled: Catalog) -> None:
    add_user(filled)
    repos.put(filled, "alice", "hers", None)
    bakes.put(filled, "alice", "hers", "bake", "default", {}, may_change=False)
    config = bakes.get(filled, "alice", "hers", "bake")
    job = BakeJob(user="alice", repo="hers", name="bake", config=config, inputs=BakeInputs({}, None))
    job = filled.store.jobs.add(msgspec.structs.replace(job, state=JobState.COMPLETE))
    row = Checkpoint("alice", "hers", "bake", 3, job_folder(filled.store.home, job.id) / "3", "0" * 64, 0, job.id)
    filled.store.checkpoints.add(row)
    add_bake(filled, "child", 4, row.name)
    assert users.remove(filled, "alice") == [job.id]
    assert filled.store.jobs.find(job.id) is None and filled.store.checkpoints.deleted() == {}


def test_a_record_s_folder_keeps_only_its_metrics(tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "metrics.png", "trainer.log", "checkpoints/3/adapter_model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    records.strip(tmp_path)
    records.strip(tmp_path / "missing")
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "metrics.png"}
