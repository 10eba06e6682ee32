"""Keys during an answer, and the terminal's state after every way to end or suspend the chat."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest

from tests.chat.server import KEY, PATIENCE_SECONDS, Behaviour, Handler, Server, contents, never_ends
from tests.chat.terminal import ALT_ENTER, SCRIPT, SHELLS_FLAGS, Terminal, environment

# Python 3.12 warns when a process with threads (here the server's) forks; the child only calls exec.
pytestmark = pytest.mark.filterwarnings("ignore:.*forkpty.*:DeprecationWarning")


def waits_for(event: threading.Event, before: str, after: str) -> Behaviour:
    """Send the second part of the answer when the event is set."""

    def behave(handler: Handler) -> None:
        handler.start_stream()
        handler.send_delta(content=before)
        event.wait(PATIENCE_SECONDS)
        handler.send_delta(content=after, finish_reason="stop")
        handler.send(b"data: [DONE]\n\n")
        handler.send(b"")

    return behave


def test_keys_during_an_answer_stay_off_the_screen_and_wait_for_the_next_prompt(
    server: Server, terminal: Terminal
) -> None:
    is_typed = threading.Event()
    server.next = [waits_for(is_typed, "Tres Comas", " Club. ")]
    terminal.type("Who are you?\r")
    terminal.wait("Tres")
    terminal.type(f"typed{ALT_ENTER}ahead")
    is_typed.set()
    terminal.wait("[first token")
    assert "typed" not in terminal.child.before
    assert terminal.child.before.split("\r\n")[0].endswith(" Comas Club.")
    terminal.prompt()
    terminal.wait("ahead")
    terminal.ask("", "reply 2")
    assert contents(server.bodies[1])[-1] == "typed\nahead"
    terminal.end("q\r")


def test_a_question_that_is_sent_during_an_answer_is_asked_after_it(server: Server, terminal: Terminal) -> None:
    is_typed = threading.Event()
    server.next = [waits_for(is_typed, "one ", "two")]
    terminal.type("first\r")
    terminal.wait("one")
    terminal.type("second\rthird\r")
    is_typed.set()
    terminal.wait("reply 2")
    terminal.wait("reply 3")
    terminal.prompt()
    assert [contents(body)[-1] for body in server.bodies] == ["first", "second", "third"]
    terminal.end("q\r")


def test_ctrl_c_drops_what_was_typed(server: Server, terminal: Terminal) -> None:
    server.next = [never_ends("It all", " began ")]
    terminal.type("Tell me\r")
    terminal.wait("It all")
    terminal.type("dropped\x03")
    terminal.wait("[stopped")
    terminal.prompt()
    terminal.ask("kept", "reply 2")
    assert contents(server.bodies[1])[-1] == "kept"
    terminal.end("q\r")


@pytest.mark.parametrize(
    ("signum", "during_an_answer"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, True)]
)
def test_a_signal_that_ends_the_chat_restores_the_terminal(
    server: Server, terminal: Terminal, signum: signal.Signals, during_an_answer: bool
) -> None:
    if during_an_answer:
        server.next = [never_ends("Once ", "upon")]
        terminal.type("hi\r")
        terminal.wait("Once")
    assert terminal.flags() != SHELLS_FLAGS
    os.kill(terminal.child.pid, signum)
    terminal.child.expect(pexpect.EOF)
    assert terminal.flags() == SHELLS_FLAGS
    terminal.child.close()
    assert terminal.child.exitstatus == 128 + signum
    assert "Traceback" not in terminal.child.before


@pytest.fixture
def shell(server: Server, tmp_path: Path) -> Terminal:
    """An interactive shell, which can suspend and continue the chat, and restores no terminal (as bash would)."""
    variables = environment(
        tmp_path,
        PROMPT_TOOLKIT_NO_CPR="1",
        BREAD_BASE_URL=server.url,
        BREAD_API_KEY=KEY,
        MODEL_NAME="hooli/gavin_bake",
        PS1="ready$ ",
    )
    child = pexpect.spawn(
        "/bin/sh", ["-i"], env=variables, cwd=str(tmp_path), encoding="utf-8", timeout=PATIENCE_SECONDS
    )
    child.delaybeforesend = None
    terminal = Terminal(child)
    terminal.wait("ready$ ")
    terminal.type(f"{shlex.join([sys.executable, str(SCRIPT)])}\r")
    terminal.prompt()
    return terminal


def test_a_suspended_answer_gives_the_terminal_back_and_goes_on_after_fg(server: Server, shell: Terminal) -> None:
    is_back = threading.Event()
    server.next = [waits_for(is_back, "Tres Comas ", "Club.")]
    shell.type("hi\r")
    shell.wait("Tres")
    shell.type("\x1a")
    shell.wait("ready$ ")
    assert shell.flags() == SHELLS_FLAGS
    shell.type("fg\r")
    shell.wait("chat_with_model.py")
    is_back.set()
    shell.wait("Club.")
    shell.prompt()
    shell.type("\x1a")  # at the prompt
    shell.wait("ready$ ")
    assert shell.flags() == SHELLS_FLAGS
    shell.type("fg\r")
    shell.prompt()
    shell.ask("again", "reply 2")
    shell.type("q\r")
    shell.wait("ready$ ")
    assert shell.flags() == SHELLS_FLAGS
    shell.child.close(force=True)
