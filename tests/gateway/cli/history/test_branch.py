"""`bread branch` and `bread switch`: what they send, and what they show."""

import json
from typing import Any

import httpx

from tests.gateway.cli.history.answers import server

REF = {"name": "main", "kind": "branch", "commit": "c" * 64, "updated": 0, "message": "the best", "is_head": True}
REFS = [REF, {**REF, "name": "v1", "kind": "tag", "is_head": False}, {**REF, "name": "dev", "is_head": False}]


def test_branches_are_listed_with_the_current_one_marked(bread_of: Any) -> None:
    bread = bread_of(server({"GET /refs": {"refs": REFS, "head": "main"}}))
    lines = [" ".join(line.split()) for line in bread("branch").out.splitlines()]
    assert lines == ["* main ccccccc the best", "dev ccccccc the best"]
    assert "tag" in bread("branch", "-a").out
    assert json.loads(bread("branch", "--json").out)["head"] == "main"


def test_a_new_branch_must_not_exist_and_a_forced_one_may(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"PUT /refs/dev": (201, {**REF, "name": "dev"})}, seen))
    assert bread("branch", "hooli/dev", "main~1").out == "hooli/dev is ccccccc.\n"
    bread("branch", "dev")
    bread("branch", "-f", "dev", "hooli/v1")
    bodies = [json.loads(request.content) for request in seen if request.method == "PUT"]
    assert bodies == [
        {"kind": "branch", "to": "main~1", "force": False, "from": None},
        {"kind": "branch", "to": "HEAD", "force": False, "from": None},
        {"kind": "branch", "to": "v1", "force": True},
    ]


def test_a_conflict_is_exit_code_3(bread_of: Any) -> None:
    taken = (409, {"message": "no"})
    bread = bread_of(server({"PUT /refs/dev": taken, "PUT /refs/v1": taken, "GET /refs": {"refs": REFS}}))
    code, _, err = bread("branch", "dev")
    assert (code, "the branch hooli/dev exists: bread branch -f moves it" in err) == (3, True)
    assert bread("branch", "v1") == (3, "", "error: no\n")
    assert bread("branch", "-f", "dev") == (3, "", "error: no\n")


def test_a_branch_is_removed(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"DELETE /refs/dev": {"message": "Branch 'dev' deleted"}}, seen))
    assert bread("branch", "-d", "dev").out == "Branch 'dev' deleted\n"
    bread("branch", "-d", "-f", "dev")
    assert [request.url.query.decode() for request in seen if request.method == "DELETE"] == ["", "force=true"]


def test_switch_chooses_a_branch_on_the_server_and_the_repo_here(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    routes = {"PUT /head": {"branch": "dev", "commit": "c" * 64}, "PUT /refs/dev": (201, REF)}
    bread = bread_of(server(routes, seen))
    assert bread("switch", "hooli/dev").out == "The current branch is hooli/dev, at ccccccc.\n"
    assert bread.session().settings.repo("http://gateway.local") == "hooli"
    assert bread("switch", "-c", "dev").code == 0
    sent = [(request.method, request.url.path) for request in seen if request.method == "PUT"]
    assert [path.rpartition("/")[2] for _, path in sent] == ["head", "dev", "head"]
    assert bread("switch", "hooli").out == "The current repo is hooli.\n"
    assert bread("switch", "gone/").code == 4
