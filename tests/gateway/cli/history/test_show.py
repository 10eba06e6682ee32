"""`bread show`."""

import json
from typing import Any

from tests.gateway.cli.history.answers import commit, server

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
