"""`bread promote` and `bread rollback`."""

import json
from typing import Any

import httpx

from tests.gateway.cli.history.answers import commit, server


def test_any_name_of_a_version_can_be_promoted(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    routes = {
        "GET /commits/v1": commit("c0ffee1", model="admin/hooli/yoda/12"),
        "POST /bakes/yoda/promote": {"bake_name": "yoda", "live_checkpoint": 12},
    }
    bread = bread_of(server(routes, seen))
    assert bread("promote", "hooli/v1").out == "hooli/yoda is hooli/yoda/12. bread undo takes it back.\n"
    assert json.loads(seen[-1].content) == {"checkpoint": 12}


def test_a_version_without_weights_can_not(bread_of: Any) -> None:
    code, _, err = bread_of(server({"GET /commits/v1": commit("c0ffee1", model=None)}))("promote", "v1")
    assert (code, "weights of hooli/v1 are not here" in err) == (3, True)


def test_a_name_goes_back(bread_of: Any) -> None:
    bread = bread_of(server({"POST /bakes/yoda/rollback": {"live_checkpoint": 6}}))
    assert "hooli/yoda is hooli/yoda/6." in bread("rollback", "yoda").out
    assert json.loads(bread("rollback", "hooli/yoda", "--json").out) == {"live_checkpoint": 6}
