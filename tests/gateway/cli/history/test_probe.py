"""`bread probe`, against the real application."""

import json
from pathlib import Path

from tests.gateway.cli.conftest import Bread


def test_a_probe_is_added_shown_listed_and_removed(bread: Bread, tmp_path: Path) -> None:
    bread("init", "hooli")
    path = tmp_path / "questions.txt"
    path.write_text("Third?\n\n")
    assert (
        bread("probe", "add", "mine", "First?", "Second\x1b[2J?", "--from", str(path)).out
        == "hooli/mine has 3 questions.\n"
    )
    assert bread("probe", "list").out.split() == ["mine", "3", "questions"]
    assert bread("probe", "show", "hooli/mine").out.splitlines() == ["First?", "Second\\x1b[2J?", "Third?"]
    assert json.loads(bread("probe", "list", "--json").out)["probes"][0]["name"] == "mine"
    assert "deleted" in bread("probe", "rm", "mine").out
    assert bread("probe", "show", "mine").code == 4
    assert bread("probe", "add", "mine").code == 2
