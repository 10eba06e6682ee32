"""How the proof of a merge looks."""

from __future__ import annotations

import copy
from typing import Any

import click
import pytest

from gateway.cli.proof import conflict_text, fields_of, is_held_back, one_line_of, rows_of
from tests.gateway.cli.merging.test_running import LEFT, REPORT


def merge(model: str | None = "admin/hooli/both/60", **changes: Any) -> dict[str, Any]:
    return {"model": model, "notes": {"merge": {**copy.deepcopy(REPORT), **changes}}}


REVERTED = {"kind": "revert", "strategy": "algebra", "retention": {"a": LEFT, "b": {**LEFT, "is_removed": True}}}


@pytest.mark.parametrize(
    ("commit", "shown"),
    [
        (merge(), "retention 0.94/-  drift 0.031  distill 60 steps"),
        (merge(model=None), "retention 0.94/-  drift 0.031  distill"),
        (merge("admin/hooli/both/0", strategy="algebra", drift=None), "retention 0.94/-"),
        (merge(**REVERTED, drift=None), "retention 0.94  of the reverted 0.94"),
        (merge(retention={}, drift=None, verdict="unverified", strategy="algebra"), "unverified"),
        ({"notes": {}}, ""),
        ({"notes": {"merge": {"retention": [1], "drift": "much", "strategy": 3}}}, ""),
    ],
)
def test_one_line_says_what_is_left_of_each_version(commit: dict[str, Any], shown: str) -> None:
    assert one_line_of(commit) == shown


def test_the_fields_say_how_it_was_made_and_judged() -> None:
    failures = ["only 0.35 of a is left", "drift\x1b[2J"]
    commit = merge(verdict="held_back", failures=failures)
    assert [(name, click.unstyle(value)) for name, value in fields_of(commit)] == [
        ("strategy", "distill 60 steps"),
        ("rank", "32, cut from 48 (0.8% of the energy)"),
        ("conflict", "25% of 100 changed tokens"),
        ("drift", "0.031, at most 0.040"),
        ("verdict", "held back: only 0.35 of a is left; drift\\x1b[2J"),
    ]
    assert dict(fields_of(merge(full_rank=32)))["rank"] == "32"
    assert click.unstyle(dict(fields_of(merge()))["verdict"]) == "passed"
    assert fields_of({"notes": {}}) == []
    assert (is_held_back(commit), is_held_back(merge()), is_held_back({"notes": None})) == (True, False, False)


def test_a_row_says_what_is_left_and_how_sure_that_is() -> None:
    proof = merge(**REVERTED)["notes"]["merge"]
    assert rows_of(proof) == [
        ("  a", "0.94 left", "[0.91, 0.97]", "agrees at 79% of 81%", "sum alone: 0.79"),
        ("  b", "0.94 still there", "[0.91, 0.97]", "agrees at 79% of 81%", ""),
    ]
    assert rows_of({"retention": {"x\x1b": {"retention": "all"}, "y": 3}}) == [("  x\\x1b", "- left", "", "", "")]


def test_a_conflict_after_different_prompts_is_no_contradiction() -> None:
    assert conflict_text({"share": 0.5, "moved": 8, "has_equal_contexts": False}).endswith("after different prompts")
    assert conflict_text({"share": 0.0, "moved": 0}) == "" == conflict_text({})
