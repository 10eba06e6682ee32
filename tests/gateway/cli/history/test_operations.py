"""`bread undo`, `redo` and `op log`."""

import json
from typing import Any

import httpx

from tests.gateway.cli.history.answers import server


def operation(number: int, summary: str, **fields: Any) -> dict[str, Any]:
    return {"id": number, "verb": "v", "summary": summary, "changes": [], "by": "admin", "created": 0, "target": None,
            "undoable": True, **fields}  # fmt: skip


LOG = {
    "operations": [operation(12, "promote yoda: 6 -> 12"), operation(3, "gc: 1 version\x1b[2J", undoable=False)],
    "undo": 12,
    "redo": None,
}


def test_undo_and_redo_step_and_say_what_they_did(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    routes = {"POST /undo": operation(13, "undo 12 (promote yoda)"), "POST /redo": operation(14, "redo 12")}
    bread = bread_of(server(routes, seen))
    code, out, err = bread("undo")
    assert (code, out, err) == (0, "undo 12 (promote yoda)\n", "bread redo brings it back.\n")
    assert bread("redo", "12", "--repo", "hooli").out == "redo 12\n"
    assert [json.loads(request.content) for request in seen if request.method == "POST"] == [{}, {"operation": 12}]


def test_what_can_not_be_undone_is_a_conflict(bread_of: Any) -> None:
    code, _, err = bread_of(server({"POST /undo": (409, {"message": "nothing to undo"})}))("undo")
    assert (code, err) == (3, "error: nothing to undo\n")


def test_the_log_marks_what_undo_takes_back(bread_of: Any) -> None:
    bread = bread_of(server({"GET /operations": LOG}))
    for arguments in (("op",), ("op", "log")):
        first, second = bread(*arguments).out.splitlines()
        assert first.split()[0] == "12" and first.endswith("promote yoda: 6 -> 12  < undo")
        assert second.endswith("gc: 1 version\\x1b[2J   can't be undone")
    assert json.loads(bread("op", "log", "--json").out) == LOG


def test_one_operation_shows_the_values(bread_of: Any) -> None:
    change = {"kind": "prompt", "name": "p", "before": {"a": 1}, "after": None}
    page = {"operations": [operation(12, "delete prompt p", changes=[change])], "undo": None, "redo": None}
    bread = bread_of(server({"GET /operations": page}))
    assert bread("op", "show", "12").out.splitlines()[2:] == ["prompt p", "- {", '-   "a": 1', "- }"]
    assert bread("op", "show", "11").code == 4
