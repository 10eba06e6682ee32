"""A repo's versions in order, with their names, models and notes."""

import time

import pytest

from baker.errors import NotFoundError
from baker.history.commit import Commit, Kind, Parent
from baker.history.ref_table import RefKind
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.types import Checkpoint
from baker.versions import log, refs
from tests.baker.grown import baked

REPO = ("admin", "repo")


@pytest.fixture
def grown(catalog: Catalog) -> Catalog:
    """root <- left, root <- right, and intermediate checkpoints of left and right."""
    root = baked(catalog, "root")
    for name in ("left", "right"):
        baked(catalog, name, root, steps=(1, 3))
    return catalog


def shown(page: log.Page) -> list[str | None]:
    return [entry.model and entry.model.removeprefix("admin/repo/") for entry in page.entries]


def test_a_log_begins_at_the_repo_s_names_and_hides_checkpoints_on_the_way(grown: Catalog) -> None:
    assert shown(log.log(grown, *REPO, limit=9)) == ["right/3", "left/3", "root/3"]
    with_siblings = log.log(grown, *REPO, with_siblings=True, limit=9)
    assert shown(with_siblings) == ["right/3", "right/1", "left/3", "left/1", "root/3"]
    assert shown(log.log(grown, *REPO, revision="left", limit=9)) == ["left/3", "root/3"]
    assert shown(log.log(grown, *REPO, revision="left", with_siblings=True, limit=9)) == ["left/3", "left/1", "root/3"]
    assert shown(log.log(grown, *REPO, revision="left/1", limit=9)) == ["left/1", "root/3"]
    refs.put(grown, *REPO, "kept", RefKind.BRANCH, "right/1")
    assert shown(log.log(grown, *REPO, limit=9)) == ["right/3", "right/1", "left/3", "root/3"]


def test_pages_follow_each_other_to_the_end(grown: Catalog) -> None:
    whole = log.log(grown, *REPO, with_siblings=True, limit=9)
    assert whole.next is None
    seen, after = [], None
    while True:
        page = log.log(grown, *REPO, with_siblings=True, limit=2, after=after)
        seen += page.entries
        after = page.next
        if after is None:
            break
    assert seen == whole.entries
    assert log.log(grown, *REPO, with_siblings=True, limit=5).next is None
    left = whole.entries[3].id  # an intermediate checkpoint, which the other list does not have
    with pytest.raises(NotFoundError, match="`after` is a commit's id"):
        log.log(grown, *REPO, limit=2, after=left)


def test_an_entry_has_all_that_is_known_of_its_commit(grown: Catalog) -> None:
    refs.put(grown, *REPO, "v1", RefKind.TAG, "left")
    refs.put(grown, *REPO, "main", RefKind.BRANCH, "left")
    refs.switch(grown, *REPO, "main")
    entry, recipe = log.show(grown, *REPO, "v1")
    assert entry.commit == grown.history.commits.of_repo(*REPO)[entry.id]
    assert entry.names == [("left", "bake", False), ("main", "branch", True), ("v1", "tag", False)]
    assert entry.model == "admin/repo/left/3"
    assert recipe is not None and recipe["targets"] == {}
    grown.history.commits.put_note(*REPO, entry.id, "seen", [1])
    assert log.show(grown, *REPO, "left")[0].notes["seen"] == [1]


def test_a_commit_outlives_its_weights(grown: Catalog) -> None:
    bakes.delete(grown, *REPO, "root")
    entry, _ = log.show(grown, *REPO, "left~1")
    assert entry.model is None
    assert shown(log.log(grown, *REPO, revision="left", limit=9)) == ["left/3", None]


def test_a_repo_without_versions_has_an_empty_log_and_others_none(catalog: Catalog) -> None:
    baked(catalog, "bake", repo="full")
    with pytest.raises(NotFoundError, match="Repo 'repo' not found"):
        log.log(catalog, *REPO, limit=9)
    with pytest.raises(NotFoundError, match="Repo 'full' not found"):
        log.log(catalog, "alice", "full", limit=9)
    repos.put(catalog, *REPO, None)
    assert log.log(catalog, *REPO, limit=9) == ([], None)


def test_a_thousand_versions_are_listed_in_milliseconds(catalog: Catalog) -> None:
    job_id = baked(catalog, "bake").job_id
    parent: str | None = None
    with catalog.store.transaction():
        for number in range(1000):
            parents = () if parent is None else (Parent(parent),)
            commit = Commit(Kind.BAKE, f"{number:064x}", "r" * 64, "b" * 64, "message", "admin", number, parents)
            parent = catalog.history.commits.add(*REPO, commit)
            catalog.history.commits.put_note(*REPO, parent, "evaluation", {"recovered": 0.9})
            path = catalog.store.home / str(number)
            catalog.store.checkpoints.add(Checkpoint(*REPO, "bake", number, path, "", 0, job_id, commit_id=parent))
    start = time.process_time()
    page = log.log(catalog, *REPO, limit=1000)
    assert time.process_time() - start < 0.5  # 0.05 on an idle machine
    assert [entry.commit.created for entry in page.entries] == list(reversed(range(1000)))
