"""Branches, tags and HEAD: what may be added and moved, and what each change leaves in the repo's log."""

import pytest

from baker.config.bake import BakeConfig
from baker.errors import ConfigError, ConflictError, InvalidInputError, NotFoundError
from baker.history.operation_table import Operation
from baker.history.ref_table import RefKind
from baker.history.revisions import resolve
from baker.repos import bakes, repos, users
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.storage.credentials import PasswordHash, new_key
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint, User
from baker.versions import checkpoints, refs, undo
from tests.baker.grown import baked

REPO = ("admin", "repo")
BRANCH, TAG = RefKind.BRANCH, RefKind.TAG


@pytest.fixture
def chain(catalog: Catalog) -> list[str]:
    """Ids of three commits, each the parent of the next: bakes `one`, `two` and `three`."""
    ids = []
    parent = None
    for name in ("one", "two", "three"):
        parent = baked(catalog, name, parent)
        ids.append(parent.commit_id or "")
    return ids


def operations(catalog: Catalog) -> list[Operation]:
    return catalog.history.operations.of_repo(*REPO)


def means(catalog: Catalog, name: str) -> str:
    return resolve(repo_view(catalog, *REPO), name)


def kind_of(error: pytest.ExceptionInfo[ConflictError]) -> str:
    (entry,) = error.value.detail or []
    return str(entry["type"])


def test_a_branch_moves_forward_and_each_move_is_an_operation(catalog: Catalog, chain: list[str]) -> None:
    before = len(operations(catalog))
    put = refs.put(catalog, *REPO, "main", BRANCH, "one", message="first")
    assert put.is_new and put.value.commit == chain[0] and put.value.is_served
    put = refs.put(catalog, *REPO, "main", BRANCH, "three")
    assert not put.is_new and (put.value.commit, put.value.message) == (chain[2], "first")
    added, moved = operations(catalog)[before:]
    assert (added.verb, added.by, added.changes[0].before) == ("branch", "admin", None)
    (change,) = moved.changes
    assert (change.kind, change.name) == ("branch", "main")
    assert (change.before["target"], change.after["target"]) == (chain[0], chain[2])
    assert change.before["created"] == change.after["created"]
    assert means(catalog, "main@{1}") == chain[0]


def test_the_same_call_again_changes_nothing(catalog: Catalog, chain: list[str]) -> None:
    for kind, name in ((BRANCH, "main"), (TAG, "v1")):
        refs.put(catalog, *REPO, name, kind, "two", message="text")
        count = len(operations(catalog))
        assert not refs.put(catalog, *REPO, name, kind, chain[1], message="text").is_new
        assert len(operations(catalog)) == count


def test_a_branch_moves_elsewhere_only_by_force(catalog: Catalog, chain: list[str]) -> None:
    refs.put(catalog, *REPO, "main", BRANCH, "two")
    baked(catalog, "other")
    for to in ("other", "one"):
        with pytest.raises(ConflictError, match="move it with force") as caught:
            refs.put(catalog, *REPO, "main", BRANCH, to)
        assert kind_of(caught) == "not_fast_forward"
    refs.put(catalog, *REPO, "main", BRANCH, "one", force=True)
    assert means(catalog, "main") == chain[0]


def test_a_branch_moves_only_from_where_the_client_expects_it(catalog: Catalog, chain: list[str]) -> None:
    refs.put(catalog, *REPO, "main", BRANCH, "one", expected=None)
    for expected in (None, chain[1]):
        with pytest.raises(ConflictError, match=f"'main' means {chain[0][:12]}, but") as caught:
            refs.put(catalog, *REPO, "main", BRANCH, "two", expected=expected, force=True)
        assert kind_of(caught) == "compare_and_swap"
    with pytest.raises(ConflictError, match=r"'new' does not exist, but .* was expected"):
        refs.put(catalog, *REPO, "new", BRANCH, "two", expected=chain[0])
    refs.put(catalog, *REPO, "main", BRANCH, "two", expected=chain[0])
    assert means(catalog, "main") == chain[1]


def test_tags_never_move(catalog: Catalog, chain: list[str]) -> None:
    refs.put(catalog, *REPO, "v1", TAG, "one", message="release")
    for to, message in (("two", ""), ("one", "another")):
        with pytest.raises(ConflictError, match="tags never move") as caught:
            refs.put(catalog, *REPO, "v1", TAG, to, message=message, force=True)
        assert kind_of(caught) == "tag_exists"
    assert means(catalog, "v1") == chain[0]


def test_bakes_branches_and_tags_share_their_names(catalog: Catalog, chain: list[str]) -> None:
    refs.put(catalog, *REPO, "main", BRANCH, "one")
    refs.put(catalog, *REPO, "v1", TAG, "one")
    for name, kind, what in (
        ("one", BRANCH, "bake"),
        ("one", TAG, "bake"),
        ("main", TAG, "branch"),
        ("v1", BRANCH, "tag"),
        (chain[0][:7], BRANCH, "beginning of the id"),
    ):
        with pytest.raises(ConflictError, match=what) as caught:
            refs.put(catalog, *REPO, name, kind, "two")
        assert kind_of(caught) == "name_taken"
    for name in ("main", "v1", chain[0][:8]):
        with pytest.raises(ConflictError):
            bakes.put(catalog, *REPO, name, "default", {}, may_change=False)
    bakes.put(catalog, *REPO, "one", "default", {}, may_change=False)  # it is there already


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".hidden", "a b", "a\x00", "HEAD", "base", "x" * 129, "a~1", "a@{1}"]
)
def test_names_that_could_mean_something_else_are_refused(catalog: Catalog, chain: list[str], name: str) -> None:
    for kind in (BRANCH, TAG):
        with pytest.raises(ConfigError):
            refs.put(catalog, *REPO, name, kind, "one")


def test_what_is_not_there_is_named(catalog: Catalog, chain: list[str]) -> None:
    with pytest.raises(NotFoundError, match="no revision 'ons'; did you mean 'one'"):
        refs.put(catalog, *REPO, "main", BRANCH, "ons")
    with pytest.raises(NotFoundError, match="Repo 'elsewhere' not found"):
        refs.put(catalog, "admin", "elsewhere", "main", BRANCH, "one")
    refs.put(catalog, *REPO, "main", BRANCH, "one")
    with pytest.raises(NotFoundError, match="no branch or tag 'mian'; did you mean 'main'"):
        refs.delete(catalog, *REPO, "mian")
    with pytest.raises(InvalidInputError, match="'one' is a bake: DELETE /v1/repo/repo/bakes/one"):
        refs.delete(catalog, *REPO, "one")
    with pytest.raises(NotFoundError, match="no branch 'mian'; did you mean 'main'"):
        refs.switch(catalog, *REPO, "mian")


def test_head_is_a_branch_and_goes_with_it(catalog: Catalog, chain: list[str]) -> None:
    assert refs.head(catalog, *REPO) is None
    refs.put(catalog, *REPO, "main", BRANCH, "two")
    refs.put(catalog, *REPO, "v1", TAG, "two")
    with pytest.raises(NotFoundError, match="no branch 'v1'"):
        refs.switch(catalog, *REPO, "v1")
    for _ in range(2):
        assert refs.switch(catalog, *REPO, "main") == chain[1]
    assert [operation.verb for operation in operations(catalog)].count("switch") == 1
    refs.put(catalog, *REPO, "next", BRANCH, "HEAD~1")
    assert means(catalog, "next") == chain[0]
    assert [each.name for each in refs.listing(catalog, *REPO) if each.is_head] == ["main"]
    with pytest.raises(ConflictError, match="the current branch: delete it with force"):
        refs.delete(catalog, *REPO, "main")
    assert refs.delete(catalog, *REPO, "main", force=True) is BRANCH
    last = operations(catalog)[-1]
    assert (last.verb, [change.kind for change in last.changes]) == ("delete-branch", ["branch", "head"])
    assert refs.head(catalog, *REPO) is None
    assert chain[1] in repo_view(catalog, *REPO).parents, "its commits stay"


def test_a_tag_is_deleted_by_force(catalog: Catalog, chain: list[str]) -> None:
    refs.put(catalog, *REPO, "v1", TAG, "one")
    with pytest.raises(ConflictError, match="a tag, which others may rely on"):
        refs.delete(catalog, *REPO, "v1")
    assert refs.delete(catalog, *REPO, "v1", force=True) is TAG
    refs.put(catalog, *REPO, "v1", TAG, "two")


def test_a_version_that_a_branch_or_tag_means_is_kept(catalog: Catalog) -> None:
    first = baked(catalog, "bake", steps=(1, 2, 3))
    refs.put(catalog, *REPO, "v1", TAG, "bake/1")
    job = catalog.store.jobs.find_bake(first.job_id)
    assert job is not None
    assert [each.step for each in checkpoints.prune(catalog, job, 1)] == [2]
    again = baked(catalog, "bake", steps=(5,))
    new = catalog.store.jobs.find_bake(again.job_id)
    assert new is not None
    removed = checkpoints.remove_of_other_jobs(catalog, new, again)
    assert [each.step for each in removed] == [], "3 was live before, 1 is tagged"
    with pytest.raises(ConflictError, match="tag 'v1' names 'repo/bake/1'"):
        bakes.delete(catalog, *REPO, "bake")
    refs.delete(catalog, *REPO, "v1", force=True)
    bakes.delete(catalog, *REPO, "bake")


def test_a_branch_in_another_repo_keeps_a_version_too_but_not_a_user(catalog: Catalog) -> None:
    users.add(
        catalog, User("alice", "Alice", "a@example.org", 0), PasswordHash(b"salt", b"digest"), new_key("alice")[0]
    )
    parent = baked(catalog, "parent", user="alice", repo="library")
    child = baked(catalog, "child", parent, user="alice")
    assert child.commit_id is not None
    refs.put(catalog, "alice", "repo", "base-tone", BRANCH, "child~1")
    view = repo_view(catalog, "alice", "repo")
    assert view.models[resolve(view, "base-tone")] == parent.name
    for remove in (
        lambda: repos.delete(catalog, "alice", "library"),
        lambda: bakes.delete(catalog, "alice", "library", "parent"),
    ):
        with pytest.raises(ConflictError, match="'repo/base-tone' means a version of"):
            remove()
    users.remove(catalog, "alice")
    assert catalog.history.refs.of_repo("alice", "repo") == []


def test_users_with_the_same_names_are_apart(catalog: Catalog, chain: list[str]) -> None:
    other: Checkpoint = baked(catalog, "one", user="admin", repo="other")
    refs.put(catalog, "admin", "other", "main", BRANCH, "one")
    refs.put(catalog, *REPO, "main", BRANCH, "two")
    assert means(catalog, "main") == chain[1]
    assert resolve(repo_view(catalog, "admin", "other"), "main") == other.commit_id
    refs.delete(catalog, "admin", "other", "main")
    assert means(catalog, "main") == chain[1]


def with_branch(name: str = "main") -> BakeConfig:
    return BakeConfig(branch=name, message="as users like it")


def test_a_bake_on_a_branch_moves_it_with_its_own_name_in_one_operation(catalog: Catalog) -> None:
    first = baked(catalog, "one", config=with_branch())
    assert means(catalog, "main") == first.commit_id, "it was made"
    second = baked(catalog, "two", first, config=with_branch(), branch_tip=first.commit_id)
    assert means(catalog, "main") == means(catalog, "two") == second.commit_id
    last = operations(catalog)[-1]
    assert [(change.kind, change.name) for change in last.changes] == [("bake", "two"), ("branch", "main")]
    assert catalog.history.commits.of_repo(*REPO)[second.commit_id or ""].message == "as users like it"
    assert resolve(repo_view(catalog, *REPO), "main@{1}") == first.commit_id
    undone = undo.apply(catalog, undo.plan(catalog, *REPO, "undo"))
    assert resolve(undone.view, "main") == first.commit_id and undone.view.bakes["two"] is None
    redone = undo.apply(catalog, undo.plan(catalog, *REPO, "redo"))
    assert resolve(redone.view, "main") == resolve(redone.view, "two") == second.commit_id


def test_branches_tags_and_head_come_back_by_undo(catalog: Catalog, chain: list[str]) -> None:
    refs.put(catalog, *REPO, "main", BRANCH, "one")
    refs.switch(catalog, *REPO, "main")
    refs.put(catalog, *REPO, "v1", TAG, "HEAD")
    refs.put(catalog, *REPO, "main", BRANCH, "three")
    refs.delete(catalog, *REPO, "main", force=True)
    states = []
    for _ in range(5):
        view = undo.apply(catalog, undo.plan(catalog, *REPO, "undo")).view
        states.append(({name: chain.index(ref.target) for name, ref in view.refs.items()}, view.head))
    assert states == [
        ({"main": 2, "v1": 0}, "main"),
        ({"main": 0, "v1": 0}, "main"),
        ({"main": 0}, "main"),
        ({"main": 0}, None),
        ({}, None),
    ]


def test_a_branch_that_moved_meanwhile_stays(catalog: Catalog) -> None:
    first = baked(catalog, "one", config=with_branch())
    other = baked(catalog, "other", first)
    refs.put(catalog, *REPO, "main", BRANCH, "other")
    job = catalog.store.jobs.add(
        BakeJob(
            user="admin",
            repo="repo",
            name="one",
            config=with_branch(),
            inputs=BakeInputs({}, first.name, branch_tip=first.commit_id),
        )
    )
    row = Checkpoint(*REPO, "one", 9, catalog.store.home / "9", "9" * 64, 0, job.id, parent=first.name)
    kept = checkpoints.keep(catalog, job, [row], [row], is_result=True)
    assert kept.warning is not None and "branch 'main' did not move to the result: 'main' means" in kept.warning
    assert means(catalog, "main") == other.commit_id
    assert means(catalog, "one") == kept.moved[-1].commit_id


def test_a_result_that_the_name_does_not_mean_moves_no_branch(catalog: Catalog) -> None:
    first = baked(catalog, "one", config=with_branch())
    job = catalog.store.jobs.find_bake(first.job_id)
    assert job is not None
    row = Checkpoint(*REPO, "one", 9, catalog.store.home / "9", "9" * 64, 0, job.id, parent=first.name)
    kept = checkpoints.keep(catalog, job, [row], [], is_result=True)
    assert kept.warning is None and means(catalog, "main") == first.commit_id
