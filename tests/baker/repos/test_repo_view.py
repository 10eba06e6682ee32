"""A repo's names and commits, as the rules of revisions see them."""

import sqlite3
import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from baker.history.operation_table import ChangeKind, PointerMove, target_of
from baker.history.ref_table import Ref, RefKind
from baker.history.revisions import resolve
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.repos.repo_view import reflogs, repo_view
from baker.types import MovedBy
from tests.baker.grown import baked


def test_each_name_of_a_repo_is_there_with_what_it_means(catalog: Catalog) -> None:
    first = baked(catalog, "first", steps=(1, 3))
    second = baked(catalog, "second", first)
    bakes.put(catalog, "admin", "repo", "never-run", "default", {}, may_change=False)
    refs = catalog.history.refs
    refs.put("admin", "repo", Ref("main", RefKind.BRANCH, second.commit_id or ""))
    refs.put("admin", "repo", Ref("HEAD", RefKind.HEAD, "main"))
    refs.put("admin", "repo", Ref("origin/main", RefKind.REMOTE, first.commit_id or ""))
    view = repo_view(catalog, "admin", "repo")
    assert view.bakes == {"first": first.commit_id, "second": second.commit_id, "never-run": None}
    assert view.checkpoints.keys() == {"first/1", "first/3", "second/3"}
    assert (view.refs.keys(), view.head) == ({"main", "origin/main"}, "main")
    assert list(view.parents) == [view.checkpoints[name] for name in ("first/1", "first/3", "second/3")]
    assert view.parents[second.commit_id or ""] == (first.commit_id,)
    assert resolve(view, "HEAD~1") == resolve(view, "first") == first.commit_id
    assert resolve(view, "origin/main") == first.commit_id


def test_repos_that_are_not_there_and_repos_of_others_are_empty(catalog: Catalog) -> None:
    baked(catalog, "first")
    baked(catalog, "first", user="admin", repo="other")
    for user, repo in (("user", "repo"), ("admin", "nowhere")):
        view = repo_view(catalog, user, repo)
        assert not view.bakes and not view.refs and not view.parents and not view.checkpoints


def test_a_bake_s_earlier_values_are_known_from_rows_of_versions_without_operations(catalog: Catalog) -> None:
    old, new = (baked(catalog, "bake", steps=(step,)) for step in (3, 5))
    catalog.store.checkpoints.move_name(old, MovedBy.ROLLBACK)
    view = repo_view(catalog, "admin", "repo")
    assert resolve(view, "bake@{0}") == old.commit_id
    assert resolve(view, "bake@{1}") == new.commit_id


def moved(name: str, before: object, after: object, kind: ChangeKind = "branch") -> PointerMove:
    return PointerMove(kind, name, target_of(before), target_of(after))


def test_earlier_values_come_from_operations_latest_first() -> None:
    changes = [
        moved("main", None, {"name": "main", "target": "a"}),
        moved("HEAD", None, "main", "head"),
        moved("yoda", {"commit": "x"}, {"commit": "y"}, "bake"),
        moved("main", {"target": "a"}, {"target": "b"}),
        moved("other", None, "c"),
        moved("HEAD", "main", "other", "head"),
        moved("gone", None, "d"),
    ]
    logs = reflogs(changes, {"main": "b", "other": "c", "yoda": "z", "v1": "q"}, "other")
    assert logs == {
        "main": ["b", "a"],
        "other": ["c"],
        "yoda": ["z", "y", "x"],  # it moved to z without an operation
        "v1": ["q"],
        "HEAD": ["c", "b", "a"],
    }


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8))
def test_a_name_s_values_are_those_that_it_had_in_turn(values: list[str]) -> None:
    steps = [None, *values]
    logs = reflogs([moved("main", *pair) for pair in pairwise(steps)], {"main": values[-1]}, None)
    expected = [values[0], *(after for before, after in pairwise(values) if before != after)]
    assert logs["main"] == expected[::-1]


def test_a_thousand_commits_are_read_in_milliseconds(catalog: Catalog) -> None:
    parent = None
    for number in range(40):
        parent = baked(catalog, f"bake-{number}", parent, steps=tuple(range(1, 26)))
    start = time.process_time()
    view = repo_view(catalog, "admin", "repo")
    assert len(view.parents) == 1000
    assert resolve(view, "bake-39~39") == resolve(view, "bake-0")
    assert time.process_time() - start < 0.5
    assert sqlite3.sqlite_version_info >= (3, 38)  # for `->>`
