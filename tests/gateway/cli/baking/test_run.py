"""`bread run`, `stim` and `rollout`."""

import json

import pytest

from tests.gateway.cli.conftest import Bread


@pytest.fixture
def filled(bread: Bread) -> Bread:
    assert bread("bake", "You are Yoda.", "--name", "yoda", "--questions", "3", "--detach").code == 0
    return bread


def test_questions_and_answers_are_shown(filled: Bread) -> None:
    questions = filled("stim", "yoda").out.splitlines()
    assert len(questions) == 3
    assert filled("rollout", "bread/yoda", "--run").code == 0
    shown = filled("rollout", "yoda").out.splitlines()
    assert sorted(shown[::2]) == sorted(questions)
    assert all(line.startswith("  ") for line in shown[1::2])
    page = json.loads(filled("rollout", "yoda", "--json").out)
    assert sorted(row["stimulus_id"] for row in page["output"]) == [0, 1, 2]


def test_run_starts_the_stages_of_a_saved_bake(filled: Bread) -> None:
    code, out, _ = filled("run", "yoda", "--detach", "--json")
    assert (code, json.loads(out)["bake_name"]) == (0, "yoda")
    assert filled("run", "gone").code == 4
