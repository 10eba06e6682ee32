"""Repos: added once, listed by user, removed with everything in them."""

from pathlib import Path

import pytest

from baker.errors import ConflictError, InvalidInputError, NotFoundError
from baker.model_names import BaseModelNames
from baker.repos import bakes, models, prompts, repos
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.storage.credentials import PasswordHash
from baker.types import User
from tests.baker.repos.filled import LOUD, USER, checkpoint, filled, finish, start

__all__ = ["filled"]  # a fixture


def test_a_repo_is_found_again_and_its_base_model_is_fixed(catalog: Catalog) -> None:
    assert repos.put(catalog, USER, "repo", None).is_new
    assert not repos.put(catalog, USER, "repo", None).is_new
    assert not repos.put(catalog, USER, "repo", "").is_new, "as it would have been made"
    with pytest.raises(ConflictError, match="fake/base"):
        repos.put(catalog, USER, "repo", "Other/Model")
    assert catalog.repo(USER, "repo").base_model == "fake/base"


def test_the_embedded_model_stands_in_and_a_chosen_one_does_not(tmp_path: Path, catalog: Catalog) -> None:
    assert repos.put(catalog, USER, "repo", "Qwen/Qwen3-32B").value.base_model == "Qwen/Qwen3-32B"
    assert "stands in" in (models.resolve(catalog, USER, "Qwen/Qwen3-32B").warning or "")
    folder = tmp_path / "chosen"
    folder.mkdir()
    chosen = Catalog(folder, BaseModelNames(served="my/model", stands_in=False))
    with pytest.raises(InvalidInputError, match="my/model"):
        repos.put(chosen, USER, "repo", "Qwen/Qwen3-32B")
    assert repos.listing(chosen, USER) == []


def test_users_do_not_see_each_other(filled: Catalog) -> None:
    with pytest.raises(NotFoundError):
        filled.repo("other", "repo")
    assert repos.listing(filled, "other") == []
    filled.store.users.add(User("other", "", "", 0), PasswordHash(b"", b""))
    repos.put(filled, "other", "repo", None)
    assert filled.names("prompts", "other", "repo") == []


def test_deleting_a_repo_deletes_all_in_it_and_nothing_else(filled: Catalog) -> None:
    jobs = [start(filled, Stage.STIM, "target"), start(filled, Stage.ROLLOUT, "target")]
    with pytest.raises(ConflictError, match="'target' in repo 'repo' is pending"):
        repos.delete(filled, USER, "repo")
    for job in jobs:
        finish(filled, job)
    bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True)
    filled.store.checkpoints.add(checkpoint(filled, 8, 1))
    repos.put(filled, USER, "repo2", None)
    prompts.put(filled, USER, "repo2", "kept", LOUD, may_change=False)
    assert repos.delete(filled, USER, "repo") == [job.id for job in jobs]
    assert repos.listing(filled, USER) == [filled.repo(USER, "repo2")]
    assert filled.names("prompts", USER, "repo2") == ["kept"]
    assert (filled.store.jobs.numbers(), filled.store.checkpoints.all()) == (set(), [])
    with pytest.raises(NotFoundError):
        repos.delete(filled, USER, "repo")
    repos.put(filled, USER, "repo", None)
    assert [filled.names(table, USER, "repo") for table in ("prompts", "targets", "bakes")] == [[], [], []]


def test_the_master_key_means_its_own_repo_or_the_only_one_there_is(filled: Catalog) -> None:
    for name in ("alice", "bob"):
        filled.store.users.add(User(name, "", "", 0), PasswordHash(b"", b""))
    repos.put(filled, "alice", "repo", None)
    repos.put(filled, "alice", "hers", None)
    assert [repos.owner(filled, name) for name in ("repo", "hers", "nobodys")] == ["admin", "alice", "admin"]
    repos.put(filled, "bob", "hers", None)
    assert repos.owner(filled, "hers") == "admin", "one of two is not guessed"
