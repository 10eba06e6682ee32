"""The chat in a terminal."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from tests.chat.server import (
    MODELS,
    PATIENCE_SECONDS,
    Server,
    answers,
    breaks_after,
    contents,
    never_ends,
    refuses,
    serving,
)
from tests.chat.terminal import ALT_ENTER, PASTE, PASTE_END, UP, Terminal, open_chat

# Python 3.12 warns when a process with threads (here the server's) forks; the child only calls exec.
pytestmark = pytest.mark.filterwarnings("ignore:.*forkpty.*:DeprecationWarning")


@pytest.mark.parametrize("keys", ["exit\r", "QUIT\r", " q \r", "\x04"], ids=["exit", "quit", "q", "ctrl-d"])
def test_a_question_is_answered_and_the_chat_ends_with_zero(server: Server, terminal: Terminal, keys: str) -> None:
    terminal.ask("Who are you?", "reply 1")
    assert contents(server.bodies[0]) == ["Who are you?"]
    terminal.end(keys)
    assert len(server.bodies) == 1


def test_the_speed_is_shown_after_an_answer(server: Server, terminal: Terminal) -> None:
    server.next = [answers("some", " words")]
    terminal.type("hi\r")
    terminal.wait("some words")
    terminal.wait("[42 tokens, ")
    terminal.wait(" tokens/s, first token after ")
    terminal.prompt()
    terminal.end("q\r")


def test_an_answer_shows_before_it_is_complete_and_ctrl_c_stops_it(server: Server, terminal: Terminal) -> None:
    server.next = [never_ends("It all", " began", " to")]
    terminal.type("Tell me\r")
    terminal.wait("It all began")
    terminal.type("\x03")
    terminal.wait("[stopped, first token after ")
    assert server.dropped.wait(PATIENCE_SECONDS), "the connection must close, or the server would continue"
    terminal.prompt()
    terminal.ask("And then?", "reply 2")
    assert contents(server.bodies[1]) == ["Tell me", "It all began to", "And then?"]
    terminal.end("q\r")


def test_ctrl_c_before_the_first_word_leaves_the_question_to_retry(server: Server, terminal: Terminal) -> None:
    server.next = [never_ends()]
    terminal.type("Well?\r")
    assert server.reached.wait(PATIENCE_SECONDS)
    terminal.type("\x03")
    terminal.wait("[stopped, no answer]")
    terminal.prompt()
    terminal.ask("/retry", "reply 2")
    assert contents(server.bodies[1]) == ["Well?"]
    terminal.end("q\r")


def test_several_lines_are_typed_or_pasted_and_sent_as_one(server: Server, terminal: Terminal) -> None:
    terminal.ask(f"one{ALT_ENTER}two", "reply 1")
    terminal.ask(f"{PASTE}three\r\nfour\nfive{PASTE_END}", "reply 2")
    assert contents(server.bodies[1])[::2] == ["one\ntwo", "three\nfour\nfive"]
    terminal.end("q\r")


def test_the_up_arrow_recalls_in_this_session_and_the_next(server: Server, terminal: Terminal, tmp_path: Path) -> None:
    terminal.ask("first question", "reply 1")
    terminal.ask("second question", "reply 2")
    terminal.ask(UP + UP, "reply 3")
    terminal.end("\x04")
    assert contents(server.bodies[2])[-1] == "first question"
    path = tmp_path / "state" / "bread" / "chat_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    later = open_chat(server.url, tmp_path, "--model", "hooli/gavin_bake")
    later.type("\x12second")  # Ctrl-R
    later.wait("second")
    later.type("\r")  # accept the match
    later.ask("", "reply 4")
    assert contents(server.bodies[3]) == ["second question"]
    later.end("q\r")


def test_tab_completes_commands_and_model_names(server: Server, terminal: Terminal) -> None:
    server.models.append("alice/new/one/1")  # served only after the chat started
    terminal.type("/he\t")
    terminal.wait("lp")
    terminal.ask("", "Alt+Enter")
    for typed, rest, model in [("yod", "alice/dagobah/yoda/3", MODELS[3]), ("alice/n", "ew/one/1", "alice/new/one/1")]:
        terminal.type(f"/model {typed}\t")
        terminal.wait(rest)
        terminal.ask("", f"Talking to {model}")
    terminal.ask("hi", "reply 1")
    assert server.bodies[0]["model"] == "alice/new/one/1"
    terminal.end("q\r")


def test_a_model_that_is_not_served_is_named_with_similar_ones(server: Server, tmp_path: Path) -> None:
    server.next = [refuses(404, {"error": {"message": "unknown model"}})]
    terminal = open_chat(server.url, tmp_path, MODEL_NAME="alice/hooli/gavin_cake/21")
    terminal.type("hi\r")
    terminal.wait("error: Not found (HTTP 404): unknown model.")
    terminal.ask("", "/model NAME picks another model.")
    terminal.ask("/model hoooli/gavin_bake", "gavin_bake/7?")
    terminal.ask("/model hooli/gavin_bake", "Talking to hooli/gavin_bake (version 21).")
    terminal.ask("hi", "reply 2")
    terminal.end("q\r")


def test_the_conversation_survives_errors(server: Server, terminal: Terminal) -> None:
    terminal.ask("one", "reply 1")
    server.next = [refuses(503, {"error": {"message": "asleep"}}, {"Retry-After": "3"}), breaks_after("half")]
    terminal.type("two\r")
    terminal.wait("error: The model can't answer yet (HTTP 503): asleep. Try again in 3 s.")
    terminal.wait("resend it with /retry or the up arrow.")
    terminal.prompt()
    terminal.type(f"{UP}\r")
    terminal.wait("half")
    terminal.wait("error: The connection to ")
    terminal.wait("resend it with /retry or the up arrow.")
    terminal.prompt()
    terminal.ask("/retry", "reply 4")
    assert contents(server.bodies[3]) == ["one", "reply 1", "two"]
    terminal.end("q\r")


def test_it_starts_without_a_server_and_answers_when_there_is_one(tmp_path: Path) -> None:
    with Server() as server:
        terminal = open_chat(server.url, tmp_path)
        terminal.ask("hi", f"error: Cannot reach {server.url}")
        with serving(server):
            terminal.ask("/retry", "reply 1")
            terminal.end("q\r")


def test_ctrl_c_at_the_prompt_clears_the_line_and_pressed_twice_on_an_empty_line_ends_the_chat(
    server: Server, terminal: Terminal
) -> None:
    terminal.type("never sent\x03")
    terminal.prompt()
    terminal.ask("sent", "reply 1")
    assert contents(server.bodies[0]) == ["sent"]
    terminal.type("\x03")
    terminal.wait("Press Ctrl-C again, or Ctrl-D, to end the chat.")
    terminal.prompt()
    terminal.type("cleared\x03")  # so the next Ctrl-C counts as the first again
    terminal.prompt()
    terminal.type("\x03")
    terminal.wait("to end the chat.")
    terminal.prompt()
    terminal.end("\x03")


@pytest.mark.parametrize(("no_color", "is_dim"), [("", True), ("1", False)])
def test_no_color_is_respected(server: Server, tmp_path: Path, no_color: str, is_dim: bool) -> None:
    terminal = open_chat(server.url, tmp_path, "--model", "hooli/gavin_bake", NO_COLOR=no_color)
    server.next = [answers("Yes.", thought="Hmm.")]
    terminal.type("hi\r")
    terminal.wait("\x1b[2mHmm.\x1b[0m" if is_dim else "Hmm.")
    terminal.wait("\r\nYes.")
    terminal.wait("tokens")
    assert terminal.child.before.count("\x1b[2m") == is_dim
    terminal.prompt()
    terminal.end("q\r")


def test_a_signal_from_outside_stops_an_answer_too(server: Server, terminal: Terminal) -> None:
    server.next = [never_ends("Once ", "upon")]
    terminal.type("hi\r")
    terminal.wait("Once")
    os.kill(terminal.child.pid, signal.SIGINT)
    terminal.wait("[stopped")
    terminal.prompt()
    terminal.end("q\r")
