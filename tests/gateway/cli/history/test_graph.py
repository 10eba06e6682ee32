"""The drawn graph: each commit once, and its edges lead to its parents."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.history.graph import Graph

Dag = list[tuple[str, list[str]]]
"""Commits with their parents, children before parents."""


@st.composite
def dags(draw: st.DrawFn) -> Dag:
    count = draw(st.integers(1, 12))
    dag = []
    for number in range(count):
        older = range(number + 1, count)
        parents = draw(st.lists(st.sampled_from(older), max_size=4, unique=True)) if older else []
        dag.append((str(number), [str(parent) for parent in parents]))
    return dag


Row = tuple[str, str | None]
"""A row of the picture, and the commit that stands in it."""


def rows_of(dag: Dag) -> list[Row]:
    graph = Graph()
    rows: list[Row] = []
    for commit, parents in dag:
        drawing = graph.add(commit, parents)
        rows += [(above, None) for above in drawing.above]
        rows.append((drawing.node, commit))
        rows += [(edge, None) for edge in drawing.edges]
    return rows


def traced(rows: list[Row]) -> set[tuple[str, str]]:
    """(commit, parent) of every edge that an eye follows down the picture, from each `*`."""
    edges = set()
    for row, (drawing, commit) in enumerate(rows):
        if commit is not None:
            place = drawing.index("*")
            starts = [place, *(2 * extra + place + 2 for extra in range(extra_parents(rows, row)))]
            for start in starts:
                # The other parents' lines begin with the `\\` of the next row.
                parent = follow(rows, row + 1, start) if start == place else follow(rows, row + 2, start)
                edges |= set() if parent is None else {(commit, parent)}
    return edges


def extra_parents(rows: list[Row], row: int) -> int:
    drawing, place = rows[row][0], rows[row][0].index("*")
    if row + 1 == len(rows) or rows[row + 1][1] is not None:
        return 0
    below = rows[row + 1][0]
    if below[place : place + 2] != "|\\":
        return 0
    return 1 if "." not in drawing else (drawing.index(".") - place) // 2 + 1


def follow(rows: list[Row], row: int, place: int) -> str | None:
    """The commit that the line at this place leads to; None if it leads below the picture, or ends."""
    while row < len(rows):
        drawing, commit = rows[row]
        at = dict(enumerate(drawing))
        if commit is not None:
            if at.get(place) == "*":
                return commit
            if at.get(place) != "|":
                return None
        elif at.get(place) == "|":
            pass
        elif at.get(place + 1) == "\\":
            place += 2
        elif at.get(place - 1) == "/":
            place -= 2
            while at.get(place - 1) == "_":
                place -= 2
            # Under another lane, it goes on in the next row.
            if at.get(place) == "|" and row + 1 < len(rows) and rows[row + 1][0][place - 1 : place + 1] == "/|":
                place, row = place - 2, row + 1
        else:
            return None
        row += 1
    return None


@settings(max_examples=100, deadline=None)
@given(dags())
def test_each_commit_is_drawn_once_and_its_lines_lead_to_its_parents(dag: Dag) -> None:
    rows = rows_of(dag)
    assert [commit for _, commit in rows if commit is not None] == [commit for commit, _ in dag]
    assert all(row.count("*") == (commit is not None) for row, commit in rows)
    assert all(row == row.rstrip() for row, _ in rows)
    assert traced(rows) == {(commit, parent) for commit, parents in dag for parent in parents}


@pytest.mark.parametrize(
    ("dag", "picture"),
    [
        ("c:b b:a a:", "*,*,*"),
        ("c:a b:a a:", "*,| *,|/,*"),
        ("m:a,b b:r a:r r:", "*,|\\,| *,* |,|/,*"),
        ("m:a,b,c b:r a:r c:r r:", "*-.,|\\ \\,| * |,* | |,|/ /,| *,|/,*"),
        ("x:r y:q w:p z:r q: p: r:", "*,| *,| | *,| | | *,| |_|/,|/| |,| * |,|  /,| *,*"),
        ("a: b: c:", "*,  *,*"),
        ("a: c:b b:", "*,  *, /,*"),
    ],
)
def test_the_picture_is_gits(dag: str, picture: str) -> None:
    commits = [
        (name, parents.split(",") if parents else [])
        for name, _, parents in (each.partition(":") for each in dag.split())
    ]
    assert [row for row, _ in rows_of(commits)] == (picture.split() if "," not in picture else picture.split(","))


def test_parents_that_are_never_drawn_keep_their_lane() -> None:
    assert rows_of([("c", ["b"]), ("x", ["y"]), ("b", ["a"])]) == [("*", "c"), ("| *", "x"), ("* |", "b")]
