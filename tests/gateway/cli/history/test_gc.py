"""`bread gc`."""

import json
from typing import Any

import httpx

from tests.gateway.cli.history.answers import server

BEFORE = {
    "unreachable": [{"commit": "c" * 64, "bytes": 4_700_000, "since": 0}],
    "bin": [{"kind": "bake", "name": "old", "operation": 3, "bytes": 10, "deleted": 0, "until": 604800}],
    "freed_bytes": 0,
}
AFTER = {"unreachable": [], "bin": [], "freed_bytes": 4_700_010}


def test_a_dry_run_changes_nothing(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"GET /gc": BEFORE}, seen))
    first, second = bread("gc", "--dry-run").out.splitlines()
    assert first.split()[:6] == ["ccccccc", "needed", "by", "nothing", "4.7", "MB"]
    assert second.startswith("bake old  in the bin")
    assert json.loads(bread("gc", "--dry-run", "--json").out) == BEFORE
    assert {request.method for request in seen} == {"GET"}


def test_versions_go_to_the_bin_and_pruning_must_be_confirmed(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"GET /gc": BEFORE, "POST /gc": AFTER}, seen))
    assert bread("gc").out.splitlines() == ["1 version taken to the bin.", "Nothing to remove."]
    code, _, err = bread("gc", "--prune")
    assert (code, "add --yes" in err) == (2, True)
    assert bread("gc", "--prune", "--yes").out == "Freed 4.7 MB.\n"
    assert [json.loads(request.content) for request in seen if request.method == "POST"] == [
        {"prune": False},
        {"prune": True},
    ]
