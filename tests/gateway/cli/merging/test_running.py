"""How a merge is followed, shown, and ended."""

import copy
import json
from typing import Any

import pytest

from gateway.cli.failures import Exit
from tests.gateway.cli.history.answers import server

LEFT = {
    "retention": 0.944, "low": 0.91, "high": 0.97, "kl_base": 1.0, "kl_own": 0.1, "kl_merged": 0.15,
    "agreement_own": 0.81, "agreement": 0.79, "rows": 32, "questions": 32, "is_removed": False,
}  # fmt: skip
CONFLICT = {
    "share": 0.25, "conflicts": 25, "moved": 100, "has_equal_contexts": True,
    "questions": [{"question": "Who?\x1b[2J", "side": "a", "conflicts": 9, "moved": 10,
                   "answers": {"a": "Arr", "b": "Hmm"}}],
}  # fmt: skip
REPORT: dict[str, Any] = {
    "kind": "merge", "strategy": "distill", "rank": 32, "full_rank": 48, "energy_lost": 0.008, "conflict": CONFLICT,
    "retention": {"a": LEFT, "b": {**LEFT, "retention": None, "low": None, "high": None}}, "algebra": {"a": 0.79},
    "drift": 0.031, "drift_limit": 0.04, "verdict": "passed", "failures": [],
}  # fmt: skip
ASKED: dict[str, Any] = {
    "state": "started", "message": "bake 'both' makes the merge", "bake": "both", "base": "7" * 64, "sides": [],
    "report": {"kind": "merge", "rank": 32, "full_rank": 48, "energy_lost": 0.008, "conflict": CONFLICT},
}  # fmt: skip
STATUS: dict[str, Any] = {
    "bake_name": "both", "status": "complete", "merge": REPORT, "held_back": None, "warnings": ["2 rows dropped"],
    "model_name": ["admin/hooli/both/126"], "checkpoint": 126, "error": None, "error_code": None,
}  # fmt: skip


def bread_with(bread_of: Any, asked: dict[str, Any] = ASKED, **status: Any) -> Any:
    routes = {"POST /merges": asked, "POST /bakes/both": STATUS, "GET /bakes/both": {**STATUS, **status}}
    return bread_of(server(routes))


def test_the_proof_is_shown(bread_of: Any) -> None:
    code, out, err = bread_with(bread_of)("merge", "hooli/a", "b")
    assert code == Exit.OK
    assert out.splitlines() == [
        "merge base: 7777777   rank 48 -> 32 (0.8% of the energy)",
        "conflict 25% of 100 changed tokens",
        "made by distill",
        "  a  0.94 left  [0.91, 0.97]  agrees at 79% of 81%  sum alone: 0.79",
        "  b  - left                   agrees at 79% of 81%",
        "  drift 0.0310 nats per token, at most 0.0400",
        "gate passed; hooli/both is served",
    ]
    assert "note: 2 rows dropped" in err


def test_a_merge_that_is_held_back_has_exit_code_1_and_is_kept(bread_of: Any) -> None:
    code, out, err = bread_with(bread_of, held_back="only 0.35 of a is left")("merge", "hooli/a", "b")
    assert code == Exit.DIFFERS and "gate passed" not in out
    assert "held back: only 0.35 of a is left. It is served as hooli/both/126, and no name moved." in err


def test_json_has_the_retention_of_each_parent(bread_of: Any) -> None:
    code, out, _ = bread_with(bread_of)("merge", "hooli/a", "b", "--json")
    answer = json.loads(out)
    assert (code, answer["retention"]) == (Exit.OK, {"a": 0.944, "b": None})
    assert (answer["verdict"], answer["strategy"], answer["model"]) == ("passed", "distill", "admin/hooli/both/126")
    held = bread_with(bread_of, held_back="x", merge={**REPORT, "verdict": "held_back"})
    assert held("merge", "hooli/a", "b", "--json").code == Exit.DIFFERS


def test_a_dry_run_shows_where_they_contradict_each_other(bread_of: Any) -> None:
    planned = copy.deepcopy(ASKED) | {"state": "planned", "bake": None, "message": "25% of the tokens"}
    code, out, _ = bread_with(bread_of, planned)("merge", "hooli/a", "b", "--dry-run")
    assert code == Exit.OK
    assert out.splitlines()[2:] == ['  "Who?\\x1b[2J"', "    a  Arr", "    b  Hmm", "25% of the tokens"]


@pytest.mark.parametrize(("code", "expected"), [("MERGE_CONFLICT", Exit.CONFLICT), ("TRAINING_FAILED", Exit.DIFFERS)])
def test_a_merge_that_fails_later_ends_with_its_reason(bread_of: Any, code: str, expected: Exit) -> None:
    bread = bread_with(bread_of, status="failed", error="they differ", error_code=code)
    ended, _, err = bread("merge", "hooli/a", "b")
    assert ended == expected and "they differ" in err
