"""`bread bisect`: every change is shown, and a command's exit codes are git's."""

import json
from typing import Any

import httpx
import pytest

from tests.gateway.cli.history.answers import server


def step(name: str, *answers: str, **fields: Any) -> dict[str, Any]:
    return {"commit": name.ljust(64, "0"), "id": name.ljust(64, "0"), "message": f"made {name}", "model": None,
            "score": None, "state": None, "answers": list(answers), **fields}  # fmt: skip


def result(*steps: dict[str, Any], flips: list[str] | None = None, first_bad: str | None = None) -> dict[str, Any]:
    return {"steps": list(steps), "flips": flips or [], "first_bad": first_bad, "warnings": []}


def test_the_first_bad_version_and_all_changes_are_shown(bread_of: Any) -> None:
    good, bad = step("c0ffee1", score=-1.2, state="good"), step("41aa07d", score=-9.8, state="bad")
    answer = result(good, bad, flips=[bad["id"]], first_bad=bad["id"])
    seen: list[httpx.Request] = []
    bread = bread_of(server({"POST /bisect": answer}, seen))
    code, out, _ = bread("bisect", "hooli/b", "a", "--ask", "Refund?", "--expect", "30 days")
    assert code == 0
    assert json.loads(seen[-1].content) == {"bad": "b", "good": "a", "question": "Refund?", "expect": "30 days",
                                            "pattern": None, "samples": 1}  # fmt: skip
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "c0ffee1 good -1.20 made c0ffee1",
        "41aa07d bad -9.80 made 41aa07d <- changed",
        "",
        "41aa07d is the first bad version: made 41aa07d",
    ]


def test_a_command_judges_each_answer(bread_of: Any) -> None:
    steps = step("a1", "yes", "yes"), step("b2", "skip"), step("c3", "no", "yes", "no"), step("d4", "no")
    bread = bread_of(server({"POST /bisect": result(*steps)}))
    command = (
        'read answer; case "$answer$BREAD_QUESTION" in yesQ) exit 0;; skipQ) exit 125;; noQ) exit 1;; esac; exit 200'
    )
    code, out, _ = bread("bisect", "b", "a", "--ask", "Q", "--run", command, "--samples", "3", "--json")
    judged = json.loads(out)
    assert code == 0
    assert [each["state"] for each in judged["steps"]] == ["good", None, "bad", "bad"]
    assert [each["score"] for each in judged["steps"]] == [1.0, None, pytest.approx(1 / 3), 0.0]
    assert judged["flips"] == [steps[2]["id"]] and judged["first_bad"] == steps[2]["id"]


def test_a_command_can_stop_the_search(bread_of: Any) -> None:
    bread = bread_of(server({"POST /bisect": result(step("a1", "x"))}))
    code, _, err = bread("bisect", "b", "a", "--ask", "Q", "--run", "exit 128")
    assert (code, "ended with 128" in err) == (1, True)


@pytest.mark.parametrize("options", [(), ("--expect", "x", "--pattern", "y")])
def test_one_way_to_judge_is_needed(bread_of: Any, options: tuple[str, ...]) -> None:
    assert bread_of(server({}))("bisect", "b", "a", "--ask", "Q", *options).code == 2


def test_no_change_is_said(bread_of: Any) -> None:
    bread = bread_of(server({"POST /bisect": result(step("a1", "x"))}))
    assert "No version between them" in bread("bisect", "b", "a", "--ask", "Q", "--pattern", "x").out
