"""Garbage collection never removes what anything reaches; against a search that follows every link by itself."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baker.history.commit import Commit, Kind, Parent
from baker.history.ref_table import Ref, RefKind
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.home import checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs, MergeInputs, MergeSide
from baker.transfer import receiving
from baker.transfer.receiving import Arrival, Data
from baker.types import Checkpoint
from baker.versions import gc
from tests.baker.versions.history import NAMES, USER, act, new_repo, put_bake, run_bake, step

LATER = time.time() + 31 * 24 * 3600
"""When no operation is recent any more."""


def add_commit(catalog: Catalog, repo: str, number: int, parents: list[str]) -> str:
    """A version that was received: with weights, and no bake."""
    commit = Commit(
        Kind.MERGE, f"{repo}{number}", None, "base", "received", "bob", number, tuple(Parent(each) for each in parents)
    )
    catalog.history.commits.add(USER, repo, commit)
    name, config = commit.id[:12], bakes.bake_config({})
    job = BakeJob(user=USER, repo=repo, name=name, state=JobState.COMPLETE, config=config, inputs=BakeInputs({}, None))
    job = catalog.store.jobs.add(job)
    folder = checkpoint_folder(job_folder(catalog.store.home, job.id), 0)
    row = Checkpoint(USER, repo, name, 0, folder, commit.adapter, number, job.id, commit_id=commit.id)
    catalog.store.checkpoints.add(row, moves_name=False)
    return commit.id


def served(catalog: Catalog, repo: str) -> set[str | None]:
    """Commits with weights."""
    return {each.commit_id for each in catalog.store.checkpoints.of_user(USER) if each.repo == repo}


def ancestors(catalog: Catalog, repo: str, start: set[str]) -> set[str]:
    """Slowly: add parents until nothing changes."""
    parents = {name: set(commit.parent_ids) for name, commit in catalog.history.commits.of_repo(USER, repo).items()}
    reached = set(start)
    while (more := reached | {each for name in reached for each in parents.get(name, ())}) != reached:
        reached = more
    return reached


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=10),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(RefKind)), max_size=3),
    st.lists(
        st.tuples(st.sampled_from(["put-bake", "run-bake", "delete-bake"]), st.sampled_from(NAMES), st.integers(0, 3)),
        max_size=5,
    ),
    st.booleans(),
)
def test_what_is_reachable_stays_and_everything_else_goes(
    catalog: Catalog, links: list[list[int]], refs: list[tuple[int, RefKind]], actions: Any, prune: bool
) -> None:
    repo = new_repo(catalog)
    made: list[str] = []
    for number, parents in enumerate(links):
        made.append(add_commit(catalog, repo, number, [made[each] for each in dict.fromkeys(parents) if each < number]))
    named = {f"ref{place}": (made[number % len(made)], kind) for place, (number, kind) in enumerate(refs)}
    for name, (commit, kind) in named.items():
        catalog.history.refs.put(USER, repo, Ref(name, kind, commit))
    for action in actions:
        act(catalog, repo, action)
    own = {
        each.commit_id or "" for name in NAMES for each in bakes.checkpoints(catalog, USER, repo, name)
    } | catalog.store.bin.commits(USER, repo)
    reachable = ancestors(catalog, repo, {commit for commit, _ in named.values()} | own)
    before, weights = set(catalog.history.commits.of_repo(USER, repo)), served(catalog, repo)
    collected = gc.collect(catalog, USER, repo, prune=prune, now=LATER)
    after = set(catalog.history.commits.of_repo(USER, repo))
    assert after == before & reachable
    assert served(catalog, repo) == {each for each in weights if each in reachable}
    assert {each.commit_id for each in collected.checkpoints} == weights - reachable
    if not prune and collected.operation is not None:
        step(catalog, repo, "undo")
        assert (set(catalog.history.commits.of_repo(USER, repo)), served(catalog, repo)) == (before, weights)


def test_an_operation_keeps_what_it_names_for_a_month(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    run_bake(catalog, repo, "one", 1)
    bakes.delete(catalog, USER, repo, "one", prune=True)
    (kept,) = set(catalog.history.commits.of_repo(USER, repo)) - {
        each.commit_id for each in gc.unreachable(catalog, USER, repo)
    }
    assert catalog.history.commits.of_repo(USER, repo)[kept].message == "one step 2", "where the name was"
    assert len(gc.unreachable(catalog, USER, repo, LATER)) == 2


def test_what_a_push_brought_is_kept_for_a_day_with_weights_or_without(catalog: Catalog) -> None:
    """Its names come last, so nothing reaches it yet."""
    repo = new_repo(catalog)
    commit = Commit(Kind.BAKE, "a" * 64, None, catalog.fingerprint, "older", "bob", 1)
    receiving.describe(catalog, USER, repo, Arrival(commit, {}, Data(), is_shallow=True))
    local = catalog.history.commits.add(USER, repo, Commit(Kind.MERGE, "b" * 64, None, "base", "local", USER, 1))
    now = time.time()
    assert [each.commit_id for each in gc.unreachable(catalog, USER, repo)] == [local]
    gc.collect(catalog, USER, repo, prune=True)
    assert [*catalog.history.commits.of_repo(USER, repo)] == [commit.id]
    receiving.describe(catalog, USER, repo, Arrival(commit, {}, Data(), is_shallow=True))
    assert gc.unreachable(catalog, USER, repo, now + gc.ARRIVAL_SECONDS - 60) == []
    assert len(gc.unreachable(catalog, USER, repo, now + gc.ARRIVAL_SECONDS + 60)) == 1


def test_a_running_job_and_children_in_other_repos_keep_their_parents(catalog: Catalog) -> None:
    repo, other = new_repo(catalog), new_repo(catalog)
    first, second, third = (add_commit(catalog, repo, number, []) for number in range(3))
    add_commit(catalog, other, 9, [first])
    (checkpoint,) = [each for each in catalog.store.checkpoints.of_user(USER) if each.commit_id == second]
    put_bake(catalog, other, "one", 0)
    config = bakes.get(catalog, USER, other, "one")
    inputs = BakeInputs({}, checkpoint.name)
    catalog.store.jobs.add(BakeJob(user=USER, repo=other, name="one", config=config, inputs=inputs))
    assert [each.commit_id for each in gc.unreachable(catalog, USER, repo, LATER)] == [third]


def test_an_active_merge_keeps_its_sides_and_its_base(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    base, ours, theirs, other = (add_commit(catalog, repo, number, []) for number in range(4))
    names = {each.commit_id: each.name for each in catalog.store.checkpoints.of_user(USER)}
    sides = [MergeSide(commit[:3], commit, names[commit], 1.0, []) for commit in (ours, theirs)]
    put_bake(catalog, repo, "both", 0)
    config = bakes.get(catalog, USER, repo, "both")
    inputs = BakeInputs({}, names[ours], merge=MergeInputs(sides, names[base], base))
    job = catalog.store.jobs.add(BakeJob(user=USER, repo=repo, name="both", config=config, inputs=inputs))
    assert [each.commit_id for each in gc.unreachable(catalog, USER, repo, LATER)] == [other]
    catalog.store.jobs.update(job.id, state=JobState.COMPLETE)
    assert [each.commit_id for each in gc.unreachable(catalog, USER, repo, LATER)] == [other], "it came from them"


def test_notes_and_order_survive_the_bin(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    first = add_commit(catalog, repo, 1, [])
    second = add_commit(catalog, repo, 2, [first])
    catalog.history.commits.put_note(USER, repo, second, "evaluation", {"kl": 0.5})
    gc.collect(catalog, USER, repo, prune=False, now=LATER)
    assert catalog.history.commits.of_repo(USER, repo) == {}
    step(catalog, repo, "undo")
    assert [*catalog.history.commits.of_repo(USER, repo)] == [first, second]
    assert catalog.history.commits.notes(USER, repo, second) == {"evaluation": {"kl": 0.5}}


def test_a_redo_does_not_remove_what_is_needed_by_now(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    commit = add_commit(catalog, repo, 1, [])
    gc.collect(catalog, USER, repo, prune=False, now=LATER)
    step(catalog, repo, "undo")
    catalog.history.refs.put(USER, repo, Ref("v1", RefKind.TAG, commit))
    with pytest.raises(Exception, match="is needed now"):
        step(catalog, repo, "redo")
    assert msgspec.to_builtins(catalog.history.commits.of_repo(USER, repo)[commit])
