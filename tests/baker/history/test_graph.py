"""Answers about the graph of commits, compared with a search over all paths on random graphs."""

import time
from collections.abc import Mapping, Sequence
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from baker.history import graph

Dag = dict[str, tuple[str, ...]]


@st.composite
def dags(draw: st.DrawFn) -> Dag:
    """Commits with up to three parents among those before them; some parents are not in the repo."""
    dag: Dag = {}
    for number in range(draw(st.integers(1, 12))):
        older = [*dag, "lost"]
        dag[f"c{number}"] = tuple(draw(st.lists(st.sampled_from(older), max_size=3, unique=True)))
    return dag


def reaches(dag: Mapping[str, Sequence[str]], newer: str, older: str) -> bool:
    """By following every path."""
    return newer in dag and (newer == older or any(reaches(dag, parent, older) for parent in dag[newer]))


@given(dags(), st.data())
def test_ancestors_are_what_paths_lead_to(dag: Dag, data: st.DataObject) -> None:
    tips = data.draw(st.lists(st.sampled_from([*dag, "lost"]), max_size=3))
    expected = {older for older in dag if any(reaches(dag, tip, older) for tip in tips)}
    assert graph.ancestors(dag, tips) == expected
    for tip in tips:
        assert {older for older in dag if graph.is_ancestor(dag, older, tip)} == graph.ancestors(dag, [tip])


@given(dags(), st.data())
def test_merge_bases_are_the_common_ancestors_below_no_other(dag: Dag, data: st.DataObject) -> None:
    one, other = data.draw(st.sampled_from([*dag])), data.draw(st.sampled_from([*dag]))
    common = [commit for commit in dag if reaches(dag, one, commit) and reaches(dag, other, commit)]
    best = [commit for commit in common if not any(reaches(dag, its, commit) for its in common if its != commit)]
    assert graph.merge_bases(dag, one, other) == best
    assert graph.merge_bases(dag, other, one) == best


def test_a_criss_cross_has_two_merge_bases() -> None:
    dag = {"root": (), "a": ("root",), "b": ("root",), "left": ("a", "b"), "right": ("b", "a")}
    assert graph.merge_bases(dag, "left", "right") == ["a", "b"]
    assert graph.merge_bases(dag, "a", "right") == ["a"]
    assert graph.merge_bases({"one": (), "other": ()}, "one", "other") == []


@given(dags(), st.data())
def test_a_log_has_children_before_parents_and_else_the_newest_first(dag: Dag, data: st.DataObject) -> None:
    created = {commit: data.draw(st.integers(0, 5)) for commit in dag}
    chosen = data.draw(st.sets(st.sampled_from([*dag, "lost"])))
    order = graph.log_order(dag, chosen, created)
    assert set(order) == chosen - {"lost"}
    # The same by repeated search: the newest commit without a child that is still left.
    expected, left = [], chosen - {"lost"}
    while left:
        free = [commit for commit in left if not any(commit in dag[child] for child in left)]
        expected.append(max(free, key=lambda commit: (created[commit], list(dag).index(commit))))
        left.remove(expected[-1])
    assert order == expected


def test_first_parents_end_where_the_repo_ends() -> None:
    dag = {"a": ("lost",), "b": ("a", "x"), "c": ("b",), "x": ()}
    assert list(graph.first_parents(dag, "c")) == ["c", "b", "a"]
    assert list(graph.first_parents(dag, "lost")) == []
    circle = {"a": ("b",), "b": ("a",)}
    assert list(islice(graph.first_parents(circle, "a"), 3)) == ["a", "b", "a"]


def test_a_thousand_commits_take_milliseconds() -> None:
    dag: Dag = {"c0": (), "c1": ("c0",)}
    for number in range(2, 1000):
        dag[f"c{number}"] = (f"c{number - 1}", f"c{number - 2}")  # about 1.6 ** 1000 paths
    created = dict.fromkeys(dag, 0)
    start = time.process_time()
    assert graph.log_order(dag, graph.ancestors(dag, ["c999"]), created) == list(reversed(dag))
    assert graph.merge_bases(dag, "c999", "c998") == ["c998"]
    assert time.process_time() - start < 0.5
