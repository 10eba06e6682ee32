"""Copies: the order, what is not sent again, and what goes on after a break."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.failures import CliError, Exit
from gateway.cli.remotes import copying
from gateway.cli.remotes.copying import Copied, Move, Node, Ref, check_fast_forwards, copy, is_ancestor, parents_first
from gateway.cli.remotes.progress import Silent
from tests.gateway.cli.remotes.memory import Memory


def copied(source: Memory, target: Memory, *tips: str, with_data: bool = False) -> Copied:
    return copy(source, target, tips, with_data=with_data, report=Silent(), history=source.history())


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAUSE_SECONDS", 0.0)


def test_each_commit_follows_its_parents_and_its_adapter() -> None:
    source, target = Memory(), Memory()
    root = source.add("root")
    left, right = source.add("left", root), source.add("right", root)
    tip = source.add("tip", left, right)
    source.add("elsewhere", root)
    result = copied(source, target, tip)
    assert set(target.commits) == {root, left, right, tip}
    assert (result.commits, result.adapters, result.size) == (4, 4, sum(map(len, target.blobs.values())))
    assert copied(source, target, tip) == Copied(0, 0, 0)


def test_weights_that_two_versions_share_are_sent_once() -> None:
    source, target = Memory(), Memory()
    tip = source.add("b", source.add("a", content=b"same"), content=b"same")
    assert copied(source, target, tip).adapters == 1
    assert len(target.commits) == 2


@given(st.integers(1, 299))
def test_a_broken_copy_goes_on_where_it_stopped(cut: int) -> None:
    source, target = Memory(), Memory()
    tip = source.add("x" * 3)
    target.breaks_after = cut
    result = copied(source, target, tip)
    assert target.received == result.size == 300, "no byte was sent twice"
    assert set(target.commits) == {tip}


def test_a_copy_that_keeps_breaking_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = Memory(), Memory()
    tip = source.add("x", content=b"y" * 1000)
    monkeypatch.setattr(copying, "TRIES", 1)
    target.breaks_after = 500
    with pytest.raises(CliError, match="the same command goes on"):
        copied(source, target, tip)
    assert target.commits == {}
    before = target.received
    assert 0 < before < 1000
    assert copied(source, target, tip).size == 1000 - before


def test_an_adapter_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = Memory(), Memory()
    tip = source.add("x")
    monkeypatch.setattr(source, "read_blob", lambda sha256, offset: itertools.repeat(b"y" * 60))
    with pytest.raises(CliError, match="memory sends more than the 100 bytes that it announced"):
        copied(source, target, tip)
    assert (target.received, target.commits, target.blobs) == (60, {}, {})


def test_a_source_that_describes_another_commit_is_refused() -> None:
    source, target = Memory(), Memory()
    tip, other = source.add("x"), source.add("y")
    source.commits[tip] = {**source.commits[other], "id": tip}
    history = {tip: Node("a" * 64, ())}
    with pytest.raises(CliError, match="as another one"):
        copy(source, target, [tip], with_data=False, report=Silent(), history=history)
    assert target.commits == target.blobs == {}


def test_prompts_travel_only_on_request() -> None:
    source = Memory()
    tip = source.add("a", recipe="c" * 64)
    for with_data in (False, True):
        target = Memory()
        copied(source, target, tip, with_data=with_data)
        assert (target.commits[tip]["data"] is not None) == with_data


def test_a_recipe_that_is_gone_is_counted() -> None:
    source = Memory()
    tip = source.add("a", recipe="c" * 64)
    source.commits[tip]["data"] = {"recipe": None, "rows": {}}
    assert copied(source, Memory(), tip, with_data=True).without_recipe == 1


def test_versions_whose_weights_are_gone_travel_as_descriptions() -> None:
    source, target = Memory(), Memory()
    old = source.add("old")
    source.commits[old]["has_weights"] = False
    tip = source.add("tip", old)
    assert copied(source, target, tip).adapters == 1
    assert not target.commits[old]["has_weights"]


def test_weights_that_the_target_dropped_come_again_only_for_a_tip() -> None:
    source, target = Memory(), Memory()
    old = source.add("old")
    tip = source.add("tip", old)
    copied(source, target, tip)
    target.blobs.clear()
    target.parts.clear()
    assert copied(source, target, tip).adapters == 1
    assert source.commits[old]["description"]["adapter"] not in target.blobs
    assert copied(source, target, old).adapters == 1


def test_circles_and_holes_are_refused() -> None:
    for history in ({"a": Node("x", ("b",)), "b": Node("x", ("a",))}, {"a": Node("x", ("a",))}):
        with pytest.raises(CliError, match="its own ancestor"):
            parents_first(history, ["a"])
    with pytest.raises(CliError, match="is not there"):
        parents_first({"a": Node("x", ("b",))}, ["a"])


@given(st.lists(st.sets(st.integers(0, 11), max_size=3), min_size=1, max_size=12), st.data())
def test_orders_and_ancestors_agree_with_a_search(parents: list[set[int]], data: st.DataObject) -> None:
    history = {
        str(number): Node("x", tuple(str(each) for each in sorted(known) if each < number))
        for number, known in enumerate(parents)
    }
    tip = str(data.draw(st.integers(0, len(parents) - 1)))
    order = parents_first(history, [tip])
    reached = {tip}
    for commit in sorted(history, key=int, reverse=True):  # children have larger numbers
        if commit in reached:
            reached |= {*history[commit].parents}
    assert set(order) == reached and len(order) == len(reached)
    assert all(order.index(parent) < order.index(each) for each in order for parent in history[each].parents)
    for commit in history:
        assert is_ancestor(history, commit, tip) == (commit in reached)


def test_only_names_that_go_forward_are_moved() -> None:
    source = Memory()
    old = source.add("old")
    new, other = source.add("new", old), source.add("other")
    history = source.history()

    def check(kind: str, before: str | None, after: str) -> None:
        ref = Ref("tag" if kind == "tag" else "branch", after)
        check_fast_forwards([Move("yoda", ref, before)], history, way_out=lambda name: f"do this with {name}")

    check("branch", None, new)
    check("branch", old, new)
    check("branch", new, new)
    for before, after in ((new, old), (other, new), ("f" * 64, new)):
        with pytest.raises(CliError, match=r"non-fast-forward.*do this with yoda") as raised:
            check("branch", before, after)
        assert raised.value.code == Exit.CONFLICT
    with pytest.raises(CliError, match="a tag never moves"):
        check("tag", old, new)
