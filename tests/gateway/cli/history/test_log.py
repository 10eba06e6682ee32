"""`bread log`: the look of a history, its pages, and hostile names."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from gateway.cli.history import log as log_module
from gateway.cli.history.commits import digits_for, evaluation_of
from tests.gateway.cli.conftest import Bread
from tests.gateway.cli.history.answers import commit, server

NOTES = {"evaluation": {"recovered": 0.934, "drift": 0.0123, "eval_kl": 0.03}}
HISTORY = [
    commit("c0ffee1", "7d2b9aa", refs=(("bake", "pirate"), ("head", "main"), ("tag", "v2")), notes=NOTES),
    commit("41aa07d", "7d2b9aa", refs=(("bake", "json"),), message="json-only\nand more"),
    commit("7d2b9aa", message="polite tone", model=None),
]


@pytest.fixture
def bread_with_history(bread_of: Any) -> Bread:
    made: Bread = bread_of(server({"GET /commits": {"commits": HISTORY, "next": None}}))
    return made


def test_one_version_a_line_with_names_and_numbers(bread_with_history: Bread) -> None:
    code, out, err = bread_with_history("log")
    assert (code, err) == (0, "")
    age = time.strftime("%Y-%m-%d", time.localtime(0))
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        f"c0ffee1 (HEAD -> main, pirate, tag: v2) made c0ffee1 recovered 93% drift 0.012 {age}",
        f"41aa07d (json) json-only {age}",
        f"7d2b9aa polite tone no weights {age}",
    ]


def test_the_graph_ends_at_the_base_model(bread_with_history: Bread) -> None:
    assert bread_with_history("log", "hooli", "--graph", "--oneline").out.splitlines() == [
        "* c0ffee1 (HEAD -> main, pirate, tag: v2) made c0ffee1",
        "| * 41aa07d (json) json-only",
        "|/",
        "* 7d2b9aa polite tone",
        "* fake/base",
    ]


def test_json_is_the_servers_answer(bread_with_history: Bread) -> None:
    assert json.loads(bread_with_history("log", "--json").out) == {"commits": HISTORY, "next": None}


def test_many_versions_come_in_pages(bread_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PAGE", 2)
    seen: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/repo":
            return httpx.Response(200, json={"repos": ["hooli"]})
        seen.append(request.url)
        after = request.url.params.get("after")
        rest = HISTORY if after is None else HISTORY[2:]
        limit = int(request.url.params["limit"])
        following = rest[limit - 1]["id"] if len(rest) > limit else None
        return httpx.Response(200, json={"commits": rest[:limit], "next": following})

    code, out, err = bread_of(answer)("log", "yoda~1", "--repo", "hooli", "--all", "-n", "3", "--oneline")
    assert (code, len(out.splitlines()), err) == (0, 3, "")
    assert [dict(url.params) for url in seen] == [
        {"ref": "yoda~1", "all": "true", "limit": "2"},
        {"ref": "yoda~1", "all": "true", "limit": "1", "after": HISTORY[1]["id"]},
    ]
    code, out, err = bread_of(answer)("log", "--repo", "hooli", "-n", "2")
    assert (len(out.splitlines()), err) == (2, "There are more: bread log -n 4\n")


def test_hostile_text_can_not_move_the_cursor(bread_of: Any) -> None:
    hostile = commit("bad", message="\x1b[2J\u202eevil\nsecond", refs=(("branch", "x\x1b]0;t\x07"),))
    out = bread_of(server({"GET /commits": {"commits": [hostile], "next": None}}))("log").out
    assert "\x1b" not in out and "\u202e" not in out and "\\x1b[2J\\u202eevil" in out


def test_an_empty_repo_says_what_to_do(bread_of: Any) -> None:
    code, out, err = bread_of(server({"GET /commits": {"commits": [], "next": None}}))("log")
    assert (code, out, err) == (0, "", "hooli has no version yet: bread bake makes one.\n")


def test_ids_are_as_long_as_they_must_be() -> None:
    assert digits_for(["a" * 64, "b" * 64]) == 7
    assert digits_for(["a" * 9 + "1" * 55, "a" * 9 + "2" * 55]) == 10


@pytest.mark.parametrize(
    ("notes", "shown"),
    [
        (NOTES, "recovered 93%  drift 0.012"),
        ({"evaluation": {"eval_kl": 0.5}}, "KL 0.500"),
        ({"evaluation": {"recovered": None}}, ""),
        ({}, ""),
    ],
)
def test_an_evaluation_shows_what_is_known(notes: dict[str, Any], shown: str) -> None:
    assert evaluation_of({"notes": notes}) == shown


def merges(*names: str, verdict: str = "passed", **fields: Any) -> dict[str, Any]:
    left = {"retention": 0.5, "low": 0.4, "high": 0.6}
    proof = {"strategy": "algebra", "retention": dict.fromkeys(names, left), "drift": 0.031, "verdict": verdict}
    return {"kind": "merge", "notes": {"merge": proof}, **fields}


MERGED = [
    commit("0c70", "9f3c", "41aa", "5ea5", refs=(("head", "main"),), **merges("a", "b", "c")),
    commit("dead", "9f3c", "41aa", message="by the sum", **merges("a", "b", verdict="held_back")),
    commit("9f3c", "c0ff", "41aa", refs=(("bake", "both"),), **merges("pirate", "json")),
    commit("5ea5"),
    commit("41aa"),
    commit("c0ff"),
]


def test_merges_have_an_edge_to_each_parent_and_what_is_left_of_it(bread_of: Any) -> None:
    bread = bread_of(server({"GET /commits": {"commits": MERGED, "next": None}}))
    rows = [line.split("  1970-")[0].rstrip() for line in bread("log", "--graph", "--all").out.splitlines()]
    assert rows[0].startswith("*-.  0c70000 (HEAD -> main) made 0c70  ")
    assert rows[0].endswith("retention 0.50/0.50/0.50  drift 0.031")
    assert rows[1] == "|\\ \\"
    assert next(row for row in rows if "dead000" in row).startswith("| | | *  dead000 (held back: dead/1) by the sum  ")
    both = rows.index(next(row for row in rows if "9f3c000" in row))
    assert "retention 0.50/0.50  drift 0.031" in rows[both] and "\\" in rows[both + 1]
    assert rows[-1] == "* fake/base"


def test_a_held_back_merge_that_was_promoted_still_says_so(bread_of: Any) -> None:
    promoted = commit("dead", refs=(("bake", "both"),), **merges("a", "b", verdict="held_back"))
    bread = bread_of(server({"GET /commits": {"commits": [promoted], "next": None}}))
    assert bread("log", "--oneline").out == "dead000 (both, held back) made dead\n"


def test_numbers_that_do_not_fit_into_the_terminal_are_left_out(bread_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "is_terminal", lambda: True)
    monkeypatch.setattr(log_module, "width", lambda: 70)
    bread = bread_of(server({"GET /commits": {"commits": MERGED, "next": None}}))
    lines = bread("log", "--graph", "--all").out.splitlines()
    assert max(map(len, lines)) <= 70
    assert "retention 0.50/0.50/0.50" in lines[0] and "drift" not in lines[0]
