"""`bread status`."""

import json
from typing import Any

from tests.gateway.cli.conftest import Bread
from tests.gateway.cli.history.answers import server

STATUS = {
    "repo": "hooli",
    "base_model": "fake/base",
    "head": "main",
    "refs": 3,
    "commits": 1,
    "jobs": [{"number": 7, "stage": "bake", "name": "yoda", "state": "running", "progress_percent": 41.6}],
    "undo": {"id": 5, "summary": "promote\x1b[2J pirate to 12"},
    "redo": None,
}


def test_without_a_repo_it_shows_the_server(bread: Bread) -> None:
    code, out, _ = bread("status")
    assert code == 0
    assert "server  http://gateway.local  ready" in out and "none yet: bread bake" in out
    assert json.loads(bread("status", "--json").out)["status"] == "ready"


def test_a_repo_has_its_branch_jobs_and_what_undo_takes_back(bread_of: Any) -> None:
    front = {"name": "bread", "version": "1", "status": "not_ready", "detail": "starting", "models": 4}

    def answer(request: Any) -> Any:
        import httpx

        return httpx.Response(200, json=front) if request.url.path == "/" else server({"GET /status": STATUS})(request)

    code, out, _ = bread_of(answer)("status")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines == [
        "server http://gateway.local not ready (starting)",
        "models 4",
        "repo hooli 1 version, 3 names",
        "base fake/base",
        "branch main",
        "undo 5 promote\\x1b[2J pirate to 12",
        "",
        "JOB STAGE NAME STATE DONE",
        "7 bake yoda running 42%",
    ]
    assert json.loads(bread_of(answer)("status", "hooli", "--json").out) == STATUS
