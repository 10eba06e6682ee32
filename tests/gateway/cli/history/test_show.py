"""`bread show`."""

import json
from typing import Any

from tests.gateway.cli.history.answers import commit, server
from tests.gateway.cli.merging.test_running import REPORT

TARGET = {
    "config": {"model_name": "hooli/first"},
    "teacher": {"messages": [{"role": "system", "content": "You are\x1b[2J Yoda."}, {"role": "user", "content": [1]}]},
    "student": {"messages": []},
}
RECIPE = {"targets": {"talk": TARGET}}
COMMIT = commit(
    "c0ffee1",
    "7d2b9aa",
    refs=(("tag", "v1"),),
    message="pirate voice\n\nmore",
    recipe=RECIPE,
    notes={"evaluation": {"eval_kl_before": 0.5, "eval_kl": 0.04, "recovered": 0.92, "agreement": 0.9, "drift": 0.01}},
)


def test_it_shows_what_the_version_is_measured_and_was_made_of(bread_of: Any) -> None:
    bread = bread_of(server({"GET /commits/c0ffee1~0": COMMIT}))
    code, out, _ = bread("show", "c0ffee1~0")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == f"{COMMIT['id']} (tag: v1)"
    assert "model admin/hooli/c0ffee1/1" in lines and "from 7d2b9aa00000" in lines
    assert lines[6:11] == ["KL before 0.500", "KL after 0.040", "recovered 92.0%", "agree 90.0%", "drift 0.010"]
    assert "    pirate voice" in out.splitlines()
    assert lines[-4:] == [
        "target talk, answered by hooli/first",
        "teacher",
        "system You are\\x1b[2J Yoda.",
        "user [1]",
    ]
    assert json.loads(bread("show", "hooli/c0ffee1~0", "--json").out) == COMMIT


def test_an_unknown_version_is_exit_code_4(bread_of: Any) -> None:
    assert bread_of(server({}))("show", "gone").code == 4


def test_a_merge_shows_its_parents_and_its_proof(bread_of: Any) -> None:
    sides = [
        {"label": name, "commit": id_.ljust(64, "0")} for name, id_ in (("pirate", "c0ffee1"), ("json", "41aa07d"))
    ]
    merge = commit("9f3c1e2", "c0ffee1", "41aa07d", kind="merge", notes={"merge": {**REPORT, "sides": sides}})
    merge["parents"][1]["weight"] = 0.5
    lines = [
        " ".join(line.split()) for line in bread_of(server({"GET /commits/x": merge}))("show", "x").out.splitlines()
    ]
    for line in (
        "from c0ffee100000 pirate, 41aa07d00000 json (0.5)",
        "merge base the base model",
        "strategy distill 1 steps",
        "conflict 25% of 100 changed tokens",
        "drift 0.031, at most 0.040",
        "verdict passed",
        "a 0.94 left [0.91, 0.97] agrees at 79% of 81% sum alone: 0.79",
    ):
        assert line in lines, lines


def test_a_revert_shows_what_it_takes_out(bread_of: Any) -> None:
    sides = [{"label": name, "commit": name[0] * 64} for name in ("support", "pirate")]
    proof = {**REPORT, "kind": "revert", "sides": sides, "base": "b" * 64}
    revert = commit("0", "s" * 64, kind="revert", notes={"merge": proof})
    out = " ".join(bread_of(server({"GET /commits/x": revert}))("show", "x").out.split())
    assert "takes out pppppppppppp pirate, counted from bbbbbbbbbbbb" in out


def test_a_proof_of_a_hostile_server_is_shown_as_far_as_it_is_one(bread_of: Any) -> None:
    for sides in (3, [3], [{"label": 1, "commit": 2}], [{"label": "\x1b[2J", "commit": "\x1b"}] * 2):
        merge = commit("0", kind="merge", notes={"merge": {"sides": sides, "retention": 3, "kind": []}})
        code, out, _ = bread_of(server({"GET /commits/x": merge}))("show", "x")
        assert code == 0 and "\x1b" not in out
