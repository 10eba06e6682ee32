"""What the processes of a training agree on: two that torchrun starts, and one alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from baker.errors import StageError
from baker.training.devices import ranks
from baker.training.devices.ranks import ALONE, Ranks, is_alone, is_first, joined
from baker.training.launcher import torchrun
from tests.service import ROOT

PROGRAM = """
import json, sys
from pathlib import Path
from baker.training.devices.ranks import joined
with joined() as ranks:
    def refuse():
        raise OSError(28, "No space left on device")
    try:
        ranks.by_first(refuse)
        refused = None
    except OSError as error:
        refused = error.strerror
    outcome = {
        "size": [ranks.rank, ranks.size, ranks.here, ranks.is_first],
        "sum": ranks.sum([ranks.rank + 1.0, 10.0]),
        "least": ranks.least(5.0 - ranks.rank),
        "all": [ranks.all(True), ranks.all(ranks.rank == 0)],
        "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
        "gather": ranks.gather(f"from {ranks.rank}"),
        "first": ranks.by_first(lambda: f"by {ranks.rank}"),
        "refused": refused,
    }
    (Path(sys.argv[1]) / str(ranks.rank)).write_text(json.dumps(outcome))
"""


def test_two_processes_agree(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, *torchrun(2), str(tmp_path / "program.py"), str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / str(rank)).read_text()) for rank in range(2))
    assert (first.pop("size"), second.pop("size")) == ([0, 2, 2, True], [1, 2, 2, False])
    expected = {
        "sum": [3.0, 20.0],
        "least": 4.0,
        "all": [True, False],
        "any": [True, False],
        "gather": ["from 0", "from 1"],
        "first": "by 0",
        "refused": "No space left on device",
    }
    assert first == second == expected


def test_one_process_agrees_with_itself() -> None:
    assert ALONE.is_first and (ALONE.size, ALONE.here) == (1, 1)
    assert ALONE.sum([1.5, 2.0]) == [1.5, 2.0] and ALONE.least(3.0) == 3.0
    assert ALONE.all(True) and not ALONE.all(False) and ALONE.any(True) and not ALONE.any(False)
    assert ALONE.gather("x") == ["x"] and ALONE.by_first(lambda: 7) == 7
    assert Ranks(0, 6).here == 6 and Ranks(0, 6, here=2).here == 2


def test_torchrun_s_environment_says_who_this_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert is_alone() and is_first()
    with joined() as alone:
        assert alone is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert not is_alone() and not is_first()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(ranks.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ranks.torch.cuda, "device_count", lambda: 2)
    with pytest.raises(StageError, match="needs 3 or more GPUs, this machine has 2: lower --trainer-devices"), joined():
        pass
