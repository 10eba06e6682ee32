"""The lines about what a copy did."""

import pytest

from gateway.cli.remotes import summary
from gateway.cli.remotes.copying import Copied, Move, Node, Ref

OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64
HISTORY = {OLD: Node("x", ()), NEW: Node("x", (OLD,)), OTHER: Node("x", ())}


def test_moves_are_shown_as_git_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    moves = [
        (Move("yoda", Ref("branch", NEW), None), "yoda"),
        (Move("v1", Ref("tag", NEW), None), "v1"),
        (Move("main", Ref("branch", NEW), OLD), "origin/main"),
        (Move("wild\x1b[2J", Ref("branch", NEW), OTHER), "wild"),
    ]
    copied = Copied(2, 1, 4_700_000, 1)
    summary.show("To", "http://host/repo", moves, copied, as_json=False, history=HISTORY, notes=["a note"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "To http://host/repo",
        "* [new branch] yoda -> yoda",
        "* [new tag] v1 -> v1",
        "aaaaaaa..bbbbbbb main -> origin/main",
        "+ ccccccc...bbbbbbb (forced) wild\\x1b[2J -> wild",
        "2 commits, 1 adapter, 4.7 MB",
        "1 commit without a recipe: it is not kept there any more",
        "a note",
    ]
