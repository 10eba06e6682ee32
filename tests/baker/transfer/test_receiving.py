"""The rows that a received commit becomes: all or none, and a version like any other."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.adapters.files import content_hash
from baker.errors import ConflictError, InvalidInputError, NotFoundError
from baker.history.commit import Commit, content_id
from baker.history.ref_table import Ref, RefKind
from baker.model_names import BaseModelNames
from baker.repos import bakes, models, repos
from baker.repos.catalog import Catalog
from baker.storage.files import read_lines
from baker.transfer import receiving
from baker.transfer.receiving import Arrival, Data
from baker.versions import gc
from baker.versions.model_card import Contents, model_card
from tests.baker.transfer.versions import PARITY, foreign_commit, write_adapter

BASE = "b" * 64


@pytest.fixture
def here(tmp_path: Path) -> Catalog:
    """A catalog whose base model has the fingerprint BASE, with an empty repo."""
    catalog = Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True), BASE)
    repos.put(catalog, "admin", "repo", None)
    return catalog


def arrival(commit: Commit, **fields: Any) -> Arrival:
    return Arrival(**{"commit": commit, "notes": {}, "data": Data(), "is_shallow": False, **fields})


def arrive(catalog: Catalog, seed: int, *parents: str, **fields: Any) -> tuple[Commit, Any]:
    files = catalog.store.home / "jobs" / f".import-{seed}"
    commit = foreign_commit(write_adapter(files, seed), BASE, *parents)
    return commit, receiving.keep(catalog, "admin", "repo", arrival(commit, **fields), files, ["a warning"])


def test_a_commit_whose_name_a_bake_has_is_refused(here: Catalog) -> None:
    commit = foreign_commit("a" * 64, BASE)
    bakes.put(here, "admin", "repo", commit.id[:12], "default", {}, may_change=False)
    with pytest.raises(ConflictError, match=f"'{commit.id[:12]}' is a bake of repo 'repo': push it into another repo"):
        receiving.describe(here, "admin", "repo", arrival(commit, is_shallow=True))
    assert here.history.commits.of_repo("admin", "repo") == {}


def test_a_received_commit_is_a_version_like_any_other(here: Catalog) -> None:
    commit, checkpoint = arrive(here, 1, notes={"evaluation": {"eval_kl": 0.5}})
    assert checkpoint.name == f"admin/repo/{commit.id[:12]}/0"
    assert content_hash(checkpoint.path) == commit.adapter
    assert here.history.commits.find("admin", "repo", commit.id) == commit
    assert here.history.commits.notes("admin", "repo", commit.id) == {"evaluation": {"eval_kl": 0.5}}
    assert models.resolve(here, "admin", checkpoint.name).checkpoint == checkpoint
    job = here.store.jobs.find_bake(checkpoint.job_id)
    assert job is not None and (job.state, job.warnings) == ("complete", ["a warning"])
    child, next_one = arrive(here, 2, commit.id)
    assert next_one.parent == checkpoint.name
    assert child.parent_ids == (commit.id,)
    assert "trained elsewhere" in model_card(here, next_one, Contents("fake/base", "folder", 2))
    assert here.names("bakes", "admin", "repo") == [], "no bake of that name can be run"


def test_gc_leaves_what_just_arrived_until_its_name_can_come(here: Catalog) -> None:
    commit, checkpoint = arrive(here, 1)
    assert gc.unreachable(here, "admin", "repo") == []
    tomorrow = time.time() + gc.ARRIVAL_SECONDS + 5
    assert [each.commit_id for each in gc.unreachable(here, "admin", "repo", tomorrow)] == [commit.id]
    here.history.refs.put("admin", "repo", Ref("main", RefKind.BRANCH, commit.id))
    assert gc.unreachable(here, "admin", "repo", tomorrow) == []
    here.history.refs.remove("admin", "repo", "main")
    gc.collect(here, "admin", "repo", prune=False, now=tomorrow)
    assert receiving.plan(here, "admin", "repo", commit) == (False, False, None)
    _, again = arrive(here, 1)
    assert again.name == checkpoint.name and again.path != checkpoint.path
    assert here.store.checkpoints.of_commit("admin", "repo", commit.id) == again


def test_a_repo_can_be_deleted_although_another_one_has_a_copy_of_its_versions(here: Catalog) -> None:
    commit, checkpoint = arrive(here, 1)
    repos.put(here, "admin", "copy", None)
    files = here.store.home / "jobs" / ".import-again"
    write_adapter(files, 1)
    copied = receiving.keep(here, "admin", "copy", arrival(commit), files, [])
    assert copied is not None and copied.commit_id == checkpoint.commit_id
    for repo in ("repo", "copy"):
        here.history.refs.put("admin", repo, Ref("main", RefKind.BRANCH, commit.id))
    repos.delete(here, "admin", "repo")
    assert [each.path for each in here.store.checkpoints.all()] == [copied.path]


def test_it_is_kept_once(here: Catalog) -> None:
    commit, first = arrive(here, 1)
    _, second = arrive(here, 1)
    assert second is None
    assert [each.path for each in here.store.checkpoints.all()] == [first.path]
    assert list(here.history.commits.of_repo("admin", "repo")) == [commit.id]


def test_parents_come_first(here: Catalog) -> None:
    parent = foreign_commit("a" * 64, BASE)
    child = foreign_commit("c" * 64, BASE, parent.id)
    grandparent_of_itself = foreign_commit("d" * 64, BASE, child.id)
    for commit in (child, grandparent_of_itself):
        with pytest.raises(ConflictError, match="send parents first"):
            receiving.plan(here, "admin", "repo", commit)
    receiving.describe(here, "admin", "repo", arrival(parent, is_shallow=True))
    assert receiving.plan(here, "admin", "repo", child) == (False, False, None)


def test_an_other_base_model_is_refused_with_both_fingerprints(here: Catalog) -> None:
    with pytest.raises(ConflictError, match=f"{'c' * 64}.*fake/base.*{BASE}"):
        receiving.plan(here, "admin", "repo", foreign_commit("a" * 64, "c" * 64))
    with pytest.raises(NotFoundError):
        receiving.plan(here, "admin", "nothing", foreign_commit("a" * 64, BASE))


def test_a_shallow_commit_gets_its_weights_later(here: Catalog) -> None:
    files = here.store.home / "jobs" / ".import-1"
    commit = foreign_commit(write_adapter(files, 1), BASE)
    receiving.describe(here, "admin", "repo", arrival(commit, is_shallow=True))
    assert receiving.plan(here, "admin", "repo", commit) == (True, False, None)
    checkpoint = receiving.keep(here, "admin", "repo", arrival(commit), files, [])
    plan = receiving.plan(here, "admin", "repo", commit)
    assert plan == (True, True, checkpoint)
    assert checkpoint is not None and checkpoint.commit_id == commit.id


def test_a_failure_in_the_middle_leaves_no_row(here: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(receiving, "publish_folder", fails)
    with pytest.raises(OSError, match="no space"):
        arrive(here, 1)
    assert here.history.commits.of_repo("admin", "repo") == {}
    assert here.store.jobs.numbers() == set()
    assert here.store.checkpoints.all() == []


def test_known_notes_are_not_replaced_by_the_sender_s(here: Catalog) -> None:
    commit, _ = arrive(here, 1, notes={"evaluation": {"eval_kl": 0.5}})
    sent = {"evaluation": {"eval_kl": 0.0}, "review": "good", "parity": PARITY}
    receiving.describe(here, "admin", "repo", arrival(commit, notes=sent))
    assert here.history.commits.notes("admin", "repo", commit.id) == {
        "evaluation": {"eval_kl": 0.5},
        "review": "good",
    }


def test_data_is_kept_only_if_it_is_the_commit_s(here: Catalog) -> None:
    recipe = {"config": {"seed": 1}, "targets": {"talk": {"teacher": "secret"}}}
    files = here.store.home / "jobs" / ".import-1"
    commit = foreign_commit(write_adapter(files, 1), BASE, recipe=content_id(recipe))
    rows = {"talk": [{"question": "Who?", "answer": "Me."}]}
    receiving.check_data(commit, Data(recipe, rows))
    for wrong in (Data({**recipe, "more": 1}), Data(rows={"../talk": []})):
        with pytest.raises(InvalidInputError, match=r"data\.r"):
            receiving.check_data(commit, wrong)
    checkpoint = receiving.keep(here, "admin", "repo", arrival(commit, data=Data(recipe, rows)), files, [])
    assert checkpoint is not None
    folder = checkpoint.path.parent.parent
    assert read_lines(folder / "received" / "talk.jsonl") == rows["talk"]
    job = here.store.jobs.find_bake(checkpoint.job_id)
    assert job is not None and job.inputs.received is not None and job.inputs.received.recipe == recipe


def test_a_certificate_must_be_one_that_the_engine_can_be_asked_for() -> None:
    assert receiving.certificate_of({}, 100) is None
    certificate = receiving.certificate_of({"parity": PARITY}, 100)
    assert msgspec.to_builtins(certificate) == PARITY
    sequence: dict[str, Any] = PARITY["sequences"][0]  # type: ignore[index]
    wrong: list[Any] = [
        "text",
        {"sequences": "none", "dtype": "x"},
        *(
            {"sequences": [{**sequence, **change}], "dtype": "x"}
            for change in (
                {"context_ids": []},
                {"context_ids": [-1]},
                {"context_ids": [100]},
                {"response_ids": [1, 2, 3]},
                {"logprobs": [-1.0]},
                {"context_ids": [1] * (1 << 16)},
            )
        ),
        {"sequences": [sequence] * 257, "dtype": "x"},
    ]
    for note in wrong:
        with pytest.raises(InvalidInputError, match=r"notes\.parity"):
            receiving.certificate_of({"parity": note}, 100)


def test_warnings_say_what_was_not_compared() -> None:
    came = arrival(foreign_commit("a" * 64))
    assert len(receiving.warnings_of(came, is_certified=True, has_effect=True)) == 1
    plain = receiving.warnings_of(came, is_certified=False, has_effect=False)
    assert "without a parity certificate" in plain[1] and "does not change" in plain[2]
