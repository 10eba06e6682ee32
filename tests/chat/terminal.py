"""Starts the chat, in a pipe or in a terminal, against any base URL: also the real service's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]

import chat_with_model
from tests.chat.server import KEY, PATIENCE_SECONDS, Server

SCRIPT = Path(chat_with_model.__file__)
SHELLS_FLAGS = (True, True, True)
"""`Terminal.flags` as a shell expects them."""
UP, ALT_ENTER, PASTE, PASTE_END = "\x1b[A", "\x1b\r", "\x1b[200~", "\x1b[201~"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Variables that a chat needs, without the developer's own: no .env or key of theirs may reach a test."""
    clean = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR"}}
    return clean | {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "TERM": "xterm-256color"} | more


def pipe(server: Server, folder: Path, text: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    variables = environment(folder, **{"BREAD_BASE_URL": server.url, "BREAD_API_KEY": KEY, **more})
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, cwd=folder, env=variables, timeout=PATIENCE_SECONDS
    )


class Terminal:
    """A chat in a pty. Every wait is for output, so a slow machine only makes the tests slower."""

    def __init__(self, child: Any) -> None:
        self.child = child

    def wait(self, text: str) -> None:
        self.child.expect_exact(text)

    def prompt(self) -> None:
        """Wait until it reads input: prompt-toolkit turns bracketed paste on exactly then."""
        self.wait("\x1b[?2004h")
        self.wait(">")

    def type(self, text: str) -> None:
        self.child.send(text)

    def ask(self, text: str, expected: str) -> None:
        self.type(f"{text}\r")
        self.wait(expected)
        self.prompt()

    def flags(self) -> tuple[bool, bool, bool]:
        """Whether the terminal echoes, hands over whole lines, and turns Enter into a line feed, as a shell expects."""
        input_flags, _, _, local_flags, *_ = termios.tcgetattr(self.child.child_fd)
        return (
            bool(local_flags & termios.ECHO),
            bool(local_flags & termios.ICANON),
            bool(input_flags & termios.ICRNL),
        )

    def end(self, keys: str) -> None:
        self.type(keys)
        self.child.expect(pexpect.EOF)
        assert self.flags() == SHELLS_FLAGS
        self.child.close()
        assert (self.child.exitstatus, self.child.signalstatus) == (0, None)


def open_chat(base_url: str, folder: Path, *arguments: str, columns: int = 160, **more: str) -> Terminal:
    """Start the chat in its own terminal, with `folder` as its home, and wait for its first prompt."""
    # prompt-toolkit asks the terminal for the cursor's position, and would print a warning without a reply.
    variables = environment(
        folder, **{"PROMPT_TOOLKIT_NO_CPR": "1", "BREAD_BASE_URL": base_url, "BREAD_API_KEY": KEY, **more}
    )
    child = pexpect.spawn(
        sys.executable,
        [str(SCRIPT), *arguments],
        env=variables,
        cwd=str(folder),
        encoding="utf-8",
        timeout=PATIENCE_SECONDS,
        dimensions=(40, columns),
        # Tests that a shell runs in the background ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    child.delaybeforesend = None  # no pause before each key: the tests wait for prompts
    terminal = Terminal(child)
    terminal.prompt()
    return terminal
