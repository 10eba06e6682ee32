"""`bread diff`: what it asks for, and its exit codes."""

import json
from typing import Any

import httpx
import pytest

from tests.gateway.cli.history.answers import server

VERSIONS = {
    "a": {"id": "a" * 64, "message": "pirate\x1b[2J"},
    "b": {"id": "base", "message": "the base model"},
}
RESULT: dict[str, Any] = {
    **VERSIONS,
    "warnings": ["few rows"],
    "stat": [],
    "weights": {"modules": 2, "norm": 1.0, "relative_norm": 0.004, "rank_a": 16, "rank_b": 0,
                "cosine": None, "largest": []},
    "patch": None, "tokens": None, "recipe": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "include"),
    [
        ((), ["stat", "weights"]),
        (("--stat",), ["stat", "weights"]),
        (("--recipe", "--patch"), ["patch", "recipe"]),
    ],
)
def test_it_asks_for_the_parts_that_are_named(bread_of: Any, options: tuple[str, ...], include: list[str]) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"POST /diff": RESULT}, seen))
    code, out, err = bread("diff", "hooli/yoda", "base", "--ask", "Who?", "--max-rows", "8", *options)
    assert (code, err) == (0, "note: few rows\n")
    body = json.loads(seen[-1].content)
    assert body == {"a": "yoda", "b": "base", "probe": None, "questions": ["Who?"], "include": include, "limit": 5,
                    "max_rows": 8}  # fmt: skip
    assert out.splitlines()[:2] == ["a aaaaaaa pirate\\x1b[2J", "b base    the base model"]


def test_exit_code_1_only_on_request(bread_of: Any) -> None:
    bread = bread_of(server({"POST /diff": RESULT}))
    assert bread("diff", "a", "b", "--exit-code").code == 1
    code, out, _ = bread("diff", "a", "b", "--stat", "--json")
    assert (code, json.loads(out)) == (0, RESULT)
    same = {**RESULT, "b": RESULT["a"]}
    assert bread_of(server({"POST /diff": same}))("diff", "a", "b", "--exit-code").code == 0


def test_versions_of_different_repos_are_wrong_usage(bread_of: Any) -> None:
    assert bread_of(server({}))("diff", "hooli/a", "bob/other/b").code == 2
