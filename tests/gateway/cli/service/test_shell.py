"""`bread completion`, in the shells themselves."""

import shutil
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pexpect
import pytest

from gateway.app import build_app
from gateway.http import connections
from tests.asgi_server import served
from tests.gateway.application import KEY, services_in
from tests.service import ROOT

SECONDS = 60
READY = "READY> "
SHELLS: dict[str, tuple[list[str], str]] = {
    "bash": (
        ["--norc", "-i"],
        f"PS1='{READY}'; bind 'set enable-bracketed-paste off'; eval \"$(bread completion bash)\"",
    ),
    "zsh": (["-f", "-i"], f"PS1='{READY}'; autoload -Uz compinit; compinit -u; eval \"$(bread completion zsh)\""),
    "fish": (["--no-config", "-i"], f"function fish_prompt; echo -n '{READY}'; end; bread completion fish | source"),
}
"""Shell -> its arguments, and what sets it up."""
TYPED = {
    "swi": "switch",
    "log --re": "log --repo",
    "log hoo": "log hooli/",
    "run hooli/yod": "run hooli/yoda",
    "chat fak": "chat fake/base",
}
"""Beginning of a command line -> what the tab key makes of it."""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_prints_the_shells_function(bread_of: Any, shell: str) -> None:
    code, out, _ = bread_of(None)("completion", shell)
    assert code == 0
    assert f"_BREAD_COMPLETE={shell}_complete" in out


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A user's, with a gateway that has a repo with a bake."""
    home = tmp_path_factory.mktemp("user")
    command = home / "bin/bread"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway.cli "$@"\n')
    command.chmod(0o755)
    with served(build_app(services_in(tmp_path_factory.mktemp("home"))), http=connections.Connection) as url:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            client.post("/v1/repo", json={"repo_name": "hooli"})
            client.post("/v1/repo/hooli/bakes", json={"bake_name": "yoda", "template": "default"})
        yield {
            "PATH": f"{command.parent}:/usr/bin:/bin",
            "HOME": str(home),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "BREAD_BASE_URL": url,
            "BREAD_API_KEY": KEY,
        }


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key_completes_verbs_options_and_names(environment: dict[str, str], shell: str) -> None:
    """A unique name is followed by a space, `repo/` by what is typed next: the command line is then run by `echo`."""
    path = shutil.which(shell)
    if path is None:
        assert shell != "bash", "bash is needed"
        pytest.skip(f"{shell} is not installed")
    arguments, setup = SHELLS[shell]
    terminal: Any = pexpect.spawn(
        path, arguments, env=environment, dimensions=(40, 200), encoding="utf-8", timeout=SECONDS
    )
    try:
        terminal.sendline(setup)
        terminal.sendline("echo set''up")
        terminal.expect("setup")
        for typed, completed in TYPED.items():
            # The line is `bread ... X`; Ctrl-A and `echo '< '` and `>` around it show what the shell made of it.
            terminal.send(f"bread {typed}\t")
            terminal.send("X\x01echo '< '\x05'>'\r")
            gap = "" if completed.endswith("/") else " "
            terminal.expect_exact(f"\n< bread {completed}{gap}X>")
    finally:
        terminal.close(force=True)
