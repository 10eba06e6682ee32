"""`bread merge`, `cherry-pick` and `revert`: what they ask for."""

import json
from typing import Any

import httpx
import pytest

from gateway.cli.failures import Exit
from tests.gateway.cli.history.answers import server

DONE = {"state": "up_to_date", "message": "nothing to do", "bake": None, "base": None, "sides": [], "report": None}

ASKED: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("merge", "hooli/json"), {"others": ["json"], "into": "HEAD"}),
    (
        ("merge", "hooli/pirate", "json", "yoda", "-w", "0.7", "-w", "0.3", "-w", "1", "-m", "all"),
        {"others": ["json", "yoda"], "into": "pirate", "weights": [0.7, 0.3, 1.0], "message": "all"},
    ),
    (
        ("merge", "hooli/a", "b", "--ours", "--on-policy", "2", "-s", "distill", "--merge-base", "base"),
        {
            "others": ["b"],
            "into": "a",
            "resolution": "ours",
            "strategy": "distill",
            "base": "base",
            "overrides": {"data": {"on_policy": {"rounds": 2}}},
        },
    ),
    (
        ("merge", "hooli/a", "b", "--theirs", "--dry-run", "--probe", "hard", "--allow-held-back", "--name", "x"),
        {
            "others": ["b"],
            "into": "a",
            "resolution": "theirs",
            "dry_run": True,
            "probe": "hard",
            "allow_held_back": True,
            "name": "x",
        },
    ),
    (("cherry-pick", "hooli/b", "--into", "a"), {"kind": "cherry-pick", "others": ["b"], "into": "a"}),
    (("revert", "hooli/b~1"), {"kind": "revert", "others": ["b~1"], "into": "HEAD"}),
]


@pytest.mark.parametrize(("arguments", "expected"), ASKED)
def test_they_ask_for_what_they_are_told(bread_of: Any, arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"POST /merges": DONE}, seen))
    code, out, _ = bread(*arguments)
    assert (code, out) == (Exit.OK, "nothing to do\n")
    defaults: dict[str, Any] = {"strategy": "auto"}
    if arguments[0] == "merge":
        defaults |= {"weights": [], "resolution": None}
    assert json.loads(seen[-1].content) == defaults | expected


def test_wrong_usage(bread_of: Any) -> None:
    for arguments in (("merge",), ("revert", "a", "-s", "compose"), ("merge", "hooli/a", "bob/other/b")):
        assert bread_of(server({}))(*arguments).code == Exit.USAGE


def test_a_conflict_has_exit_code_3(bread_of: Any) -> None:
    refusal = (409, {"message": "26% of the tokens: choose --ours or --theirs", "code": "MERGE_CONFLICT"})
    code, out, err = bread_of(server({"POST /merges": refusal}))("merge", "hooli/a", "b")
    assert (code, out) == (Exit.CONFLICT, "")
    assert "choose --ours or --theirs" in err and len(err.splitlines()) == 1
