"""One line says what an operation did."""

import pytest

from baker.history.operation_table import Change, Operation
from baker.history.summary import summary

A, B = "a" * 64, "b" * 64


def operation(verb: str, *changes: Change, target: int | None = None, number: int = 9) -> Operation:
    return Operation(number, verb, list(changes), "alice", 0, target)


@pytest.mark.parametrize(
    ("done", "line"),
    [
        (operation("promote", Change("bake", "yoda", {"step": 64}, {"step": 128})), "promote yoda: 64 -> 128"),
        (operation("bake", Change("bake", "yoda", None, {"step": 64})), "bake yoda: nothing -> 64"),
        (
            operation(
                "bake", Change("bake", "y", None, {"step": 3}), Change("branch", "m", {"target": A}, {"target": B})
            ),
            f"bake y: nothing -> 3, m: {A[:12]} -> {B[:12]}",
        ),
        (operation("tag", Change("tag", "v1", None, {"target": A})), f"tag v1: {A[:12]}"),
        (
            operation(
                "switch",
                Change(
                    "head", "HEAD", {"target": "main", "kind": "head"}, {"target": "a-long-branch-name", "kind": "head"}
                ),
            ),
            "switch HEAD: main -> a-long-branch-name",
        ),
        (operation("put-prompt", Change("prompt", "wise", None, {"messages": []})), "put prompt wise"),
        (operation("put-prompt", Change("prompt", "wise", {}, {"messages": []})), "change prompt wise"),
        (
            operation("put-prompt", *(Change("prompt", name, None, 1) for name in "abcde")),
            "put prompts a, b, c and 2 more",
        ),
        (
            operation(
                "delete-bake", Change("bake-config", "yoda", {}, None), Change("bake", "yoda", {"step": 3}, None)
            ),
            "delete bake yoda",
        ),
        (operation("put-target", Change("target", "t", None, 1), Change("template", "x", None, "y")), "put target t"),
        (operation("gc", Change("commit", A, {}, None)), "gc: 1 version removed"),
    ],
)
def test_a_line_says_what_was_done(done: Operation, line: str) -> None:
    assert summary(done, {}) == line


def test_an_undo_says_what_it_takes_back() -> None:
    promote = operation("promote", Change("bake", "yoda", {"step": 64}, {"step": 128}), number=4)
    undo = operation("undo", target=4)
    assert summary(undo, {4: promote}) == "undo 4 (promote yoda: 64 -> 128)"
    assert summary(undo, {}) == "undo 4"
