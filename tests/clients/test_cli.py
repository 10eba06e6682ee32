"""The `bread` command against a real service: from a prompt to a served model in a real terminal, then its history."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest
from wcwidth import wcswidth

from gateway.cli.failures import Exit
from tests.gateway.engines import MODEL_NAME
from tests.service import ROOT, RunningGateway

REPO = "from_the_shell"
PATIENCE_SECONDS = 120
"""Only a hang takes this long."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
BAKE = ["bake", "Always shout.", "--name", "loud", "--repo", REPO, "--questions", "6", "--answer-tokens", "6",
        "--epochs", "1"]  # fmt: skip


class Shell:
    """A user's shell: a folder with `bread` in its path, and the key in `.env`."""

    def __init__(self, folder: Path, gateway: RunningGateway) -> None:
        self.folder = folder
        command = folder / "bin" / "bread"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -W error -m gateway.cli "$@"\n')
        command.chmod(stat.S_IRWXU)
        (folder / ".env").write_text(f"BREAD_BASE_URL={gateway.url}\nBREAD_API_KEY={gateway.key}\n")
        self.environment = {"PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bread", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def terminal(self, command: str, *arguments: str, columns: int = 80, **variables: str) -> Any:
        """Starts a command in a terminal of its own."""
        return pexpect.spawn(
            command,
            list(arguments),
            cwd=str(self.folder),
            env={**self.environment, "TERM": "xterm-256color", **variables},
            encoding="utf-8",
            timeout=PATIENCE_SECONDS,
            dimensions=(40, columns),
            # Tests that a shell runs in the background ignore SIGINT, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


@pytest.fixture(scope="module")
def shell(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("shell"), gateway)


@pytest.fixture(scope="module")
def baked(shell: Shell) -> Iterator[str]:
    """What the terminal showed during `bread bake`, until its end."""
    child = shell.terminal("bread", *BAKE)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    yield child.before


def test_one_line_goes_from_nothing_to_a_served_model(shell: Shell, baked: str) -> None:
    shown = ESCAPES.sub("", baked)
    for stage in ("stim", "rollout", "bake"):
        assert re.search(rf"{stage} +━+ 100%", shown), "a full bar"
    assert "\x1b[32m" in baked, "colours"
    assert f"{MODEL_NAME}" in shown and f"bread chat {REPO}/loud" in shown
    assert [line for line in shown.replace("\r", "\n").splitlines() if wcswidth(line) > 80] == []
    assert f"{REPO}/loud" in [model["id"] for model in shell.json("models")["data"]]


def test_the_same_line_again_changes_nothing(shell: Shell, baked: str) -> None:
    before = shell.json("models")
    done = shell.run(*BAKE)
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr
    assert "bake    100%" in done.stderr and f"bread chat {REPO}/loud" in done.stdout
    assert shell.json("models") == before
    other = shell.run("bake", "Always whisper.", "--name", "loud", "--repo", REPO)
    assert (other.returncode, other.stdout) == (Exit.CONFLICT, "")


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(shell: Shell, baked: str) -> None:
    long = ["bake", "Always sing.", "--name", "song", "--repo", REPO, "--questions", "40", "--answer-tokens", "60"]
    child = shell.terminal("bread", *long, columns=120)
    child.expect("rollout")
    child.sendintr()
    child.expect_exact("The server continues.")
    child.expect_exact(f"bread cancel {REPO}/song stops it.")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == Exit.INTERRUPTED
    assert shell.run("cancel", f"{REPO}/song").returncode == 0
    assert shell.json("run", f"{REPO}/song", "--detach")["status"] in {"pending", "running"}
    assert shell.run("cancel", f"{REPO}/song").returncode == 0


def test_the_training_is_in_the_logs(shell: Shell, baked: str) -> None:
    done = shell.run("logs", f"{REPO}/loud", "-f")
    assert done.returncode == 0
    assert re.search(r"^step +\d+  epoch +\d\.\d\d  loss \d+\.\d{3}  lr ", done.stdout, re.MULTILINE)
    assert "held-out KL" in done.stdout and "bake complete" in done.stdout


def test_bash_completes_verbs_and_the_servers_names(shell: Shell, baked: str) -> None:
    child = shell.terminal("bash", "--norc", PS1="ready> ")
    child.expect_exact("ready> ")
    child.sendline('eval "$(bread completion bash)"')
    child.expect_exact("ready> ")
    child.send("bread mod\t")
    child.expect_exact("els")
    child.sendline("")
    child.expect_exact("ready> ")
    child.send(f"bread show {REPO}/lo\t")
    child.expect_exact(f"{REPO}/loud")
    child.close(force=True)


def test_a_chat_answers_from_a_pipe(shell: Shell, baked: str) -> None:
    done = subprocess.run(
        ["bread", "chat", f"{REPO}/loud", "--vs", "base"],  # the window has no room for the default of 1,024 tokens
        cwd=shell.folder, env=shell.environment, input="Hi\n", capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"--- {REPO}/loud\n") and f"--- {MODEL_NAME}\n" in done.stdout


def test_names_are_made_moved_and_taken_back(shell: Shell, baked: str) -> None:
    assert shell.run("switch", f"{REPO}/").returncode == 0
    made = shell.json("branch", "main", "loud")
    assert made["name"] == "main" and shell.run("switch", "main").returncode == 0
    assert shell.run("tag", "v1", "HEAD", "-m", "the first").stdout == f"{REPO}/v1 is {made['commit'][:7]}.\n"
    drawn = shell.run("log", "--graph").stdout.splitlines()
    assert drawn[0].startswith(f"* {made['commit'][:7]} (HEAD -> main, loud, tag: v1) ")
    assert drawn[-1] == f"* {MODEL_NAME}"
    assert f"{REPO}/v1" in [model["id"] for model in shell.json("models")["data"]]
    assert shell.json("show", "v1~0")["id"] == made["commit"]
    status = shell.json("status")
    assert (status["repo"], status["head"]) == (REPO, "main")

    assert "v1" in shell.run("undo").stdout and shell.run("tag").stdout == ""
    assert "v1" in shell.run("redo").stdout and "the first" in shell.run("tag").stdout
    verbs = [operation["verb"] for operation in shell.json("op", "log")["operations"]]
    assert verbs[:4] == ["redo", "undo", "tag", "switch"]
    assert shell.run("show", "gone").returncode == Exit.NOT_FOUND
    assert shell.run("branch", "v1", "main").returncode == Exit.CONFLICT
    assert shell.run("promote", "v1").returncode == 0


def test_versions_are_compared_in_a_terminal(shell: Shell, baked: str) -> None:
    child = shell.terminal("bread", "diff", f"{REPO}/loud", "base", "--max-rows", "2")
    child.expect(pexpect.EOF)
    child.close()
    shown = ESCAPES.sub("", child.before)
    assert child.exitstatus == 0 and "neutral (24)" in shown and "modules" in shown
    assert shell.json("diff", f"{REPO}/loud", "base", "--max-rows", "2", "--stat")["stat"][-1]["kind"] == "neutral"
    assert shell.run("diff", f"{REPO}/loud", "base", "--max-rows", "2", "--exit-code").returncode == Exit.DIFFERS
    child = shell.terminal("bread", "blame", f"{REPO}/loud", "Who are you?", "--answer", "HELLO")
    child.expect(pexpect.EOF)
    child.close()
    shown = ESCAPES.sub("", child.before)
    assert child.exitstatus == 0 and "asking every ancestor" in shown and "the base model" in shown
