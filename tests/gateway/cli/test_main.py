"""`python -m gateway.cli` in a process of its own: exit codes, broken pipes and colours."""

import os
import subprocess
import sys
from pathlib import Path

from tests.service import ROOT


def test_it_ends_with_the_exit_code_and_one_line_of_error(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-m", "gateway.cli", "--base-url", "http://127.0.0.1:9", "models"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (5, "", 1)
    assert done.stderr.startswith("error: cannot reach")
