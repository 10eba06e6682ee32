"""Two models answer each question at the same time, each with its own history."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from chat_with_model import Chunk, OneByOne, Screen, SideBySide
from tests.chat.server import PATIENCE_SECONDS, Behaviour, Handler, Server, answers, contents, never_ends, refuses
from tests.chat.terminal import open_chat, pipe

# Python 3.12 warns when a process with threads (here the server's) forks; the child only calls exec.
pytestmark = pytest.mark.filterwarnings("ignore:.*forkpty.*:DeprecationWarning")

GAVIN, YODA = "hooli/gavin_bake", "dagobah/yoda"


def together(barrier: threading.Barrier, *words: str) -> Behaviour:
    """Answer when the other model was asked too."""

    def behave(handler: Handler) -> None:
        barrier.wait(PATIENCE_SECONDS)
        answers(*words)(handler)

    return behave


class Recorder(Screen):
    """A terminal of this width that keeps what is printed."""

    def __init__(self, columns: int) -> None:
        super().__init__(is_terminal=True, has_style=False)
        self.columns = columns
        self.output = ""

    def width(self) -> int:
        return self.columns

    def write(self, text: str, dim: bool = False) -> None:
        self.output += text

    def end_line(self) -> None:
        if self.output and not self.output.endswith("\n"):
            self.write("\n")

    def lines(self) -> list[str]:
        """What is on the screen: a line that is printed again after a carriage return covers the one before it."""
        return [line.rpartition("\r")[2] for line in self.output.split("\n")]


def chunk(text: str, thought: str = "") -> Chunk:
    return Chunk(text, thought, "", None)


def test_both_are_asked_at_once_and_keep_their_own_histories(server: Server, tmp_path: Path) -> None:
    barriers = [threading.Barrier(2), threading.Barrier(2)]
    for name, word in ((GAVIN, "Hooli"), (YODA, "Hmm")):
        server.by_model[name] = [together(barrier, f"{word} {n}") for n, barrier in enumerate(barriers)]
    lines = [
        "/system Be brief.", "one", f"/compare {YODA}", "two", "three", "/save chat.json", "/compare off", "four",
    ]  # fmt: skip
    server.by_model[GAVIN].insert(0, answers("reply 1"))
    done = pipe(server, tmp_path, "\n".join(lines), "--model", GAVIN)
    assert (done.returncode, done.stderr.count("both answer now. Both know the conversation so far")) == (0, 1)
    heads = [f"--- {GAVIN}\n", f"--- {YODA}\n"]
    assert done.stdout == (
        f"reply 1\n{heads[0]}Hooli 0\n{heads[1]}Hmm 0\n{heads[0]}Hooli 1\n{heads[1]}Hmm 1\nreply 6\n"
    )
    histories = {body["model"]: contents(body) for body in server.bodies[3:5]}
    start = ["Be brief.", "one", "reply 1", "two"]
    assert histories == {GAVIN: [*start, "Hooli 0", "three"], YODA: [*start, "Hmm 0", "three"]}
    assert (server.bodies[5]["model"], contents(server.bodies[5])[-3:]) == (GAVIN, ["three", "Hooli 1", "four"])
    saved = json.loads((tmp_path / "chat.json").read_text())
    assert [message["content"] for message in saved["messages"]] == [*start, "Hooli 0", "three", "Hooli 1"]
    (other,) = saved["compared_with"]
    assert (other["model"], other["messages"][-1]["content"]) == (YODA, "Hmm 1")


def test_commands_act_on_both(server: Server, tmp_path: Path) -> None:
    lines = [f"/compare {YODA}", "one", "/reset", "/system Be brief.", "two", "/retry"]
    done = pipe(server, tmp_path, "\n".join(lines), "--model", GAVIN)
    assert done.returncode == 0, done.stderr
    for asked, expected in ((server.bodies[:2], ["one"]), (server.bodies[2:4], 2), (server.bodies[4:], 2)):
        assert {body["model"] for body in asked} == {GAVIN, YODA}
        for body in asked:
            assert contents(body) == (["Be brief.", "two"] if expected == 2 else expected)


def test_an_error_of_one_names_it_and_keeps_the_answer_of_the_other(server: Server, tmp_path: Path) -> None:
    terminal = open_chat(server.url, tmp_path, "--model", GAVIN)
    terminal.ask(f"/compare {YODA}", "/compare off ends this.")
    server.by_model = {GAVIN: [answers("I am", " Gavin.")], YODA: [refuses(503, {"error": {"message": "asleep"}})]}
    terminal.type("Who are you?\r")
    terminal.wait("I am Gavin.")
    terminal.wait(f"error: {YODA}: The model can't answer yet (HTTP 503): asleep.")
    terminal.wait("resend it with /retry or the up arrow.")
    terminal.prompt()
    server.by_model = {GAVIN: [never_ends("Still", " Gavin ")], YODA: [never_ends("Yoda", " I am ")]}
    terminal.type("/retry\r")
    terminal.wait("| Yoda I")
    terminal.type("\x03")
    terminal.wait("[stopped, ")
    terminal.wait("[stopped, ")
    assert server.dropped.wait(PATIENCE_SECONDS)
    terminal.prompt()
    assert {body["model"]: contents(body) for body in server.bodies[2:]} == {
        GAVIN: ["Who are you?"],
        YODA: ["Who are you?"],
    }
    terminal.end("q\r")


def test_a_compared_model_must_be_there(server: Server, tmp_path: Path) -> None:
    done = pipe(server, tmp_path, "/compare dagobah/yodel", "--model", GAVIN)
    assert (done.returncode, server.bodies) == (1, [])
    assert "There is no model dagobah/yodel here. Did you mean alice/dagobah/yoda/3?" in done.stderr


def test_answers_stream_side_by_side_row_by_row() -> None:
    screen = Recorder(80)
    view = SideBySide(screen, ["a/left", "b/right"])
    assert SideBySide.columns(screen) == 38
    view.show(0, chunk("one two three four five six seven eight nine ten "))
    gap = " " * 38
    first = f"one two three four five six seven{gap[33:]} |"
    assert screen.lines() == [f"a/left{gap[6:]} | b/right", f"------{gap[6:]} | -------", first]
    view.show(1, chunk("uno dos"))
    assert screen.lines()[2:] == [f"{first} uno"]
    view.end(1, "[2 tokens]")
    assert screen.lines()[2:] == [f"{first} uno dos", f"eight nine ten{gap[14:]} | [2 tokens]"]
    view.end(0, "[10 tokens]")
    assert screen.lines()[3:] == [f"eight nine ten{gap[14:]} | [2 tokens]", f"[10 tokens]{gap[11:]} |", ""]


def test_wide_characters_long_words_and_thoughts_stay_in_their_column() -> None:
    screen = Recorder(80)
    view = SideBySide(screen, ["a", "b"])
    view.show(0, chunk("", thought="Hmm."))
    view.show(0, chunk("", thought=" Hmm."))
    view.show(0, chunk("面" * 20 + "\n"))
    view.show(1, chunk("x" * 50))
    view.end(0, "")
    view.end(1, "")
    assert screen.lines()[2:6] == [
        f"[thinking]{' ' * 28} | {'x' * 38}",
        f"{'面' * 19} | {'x' * 12}",
        f"面{' ' * 36} |",
        f"{' ' * 38} |",
    ]


def test_a_terminal_that_gets_narrower_prints_only_whole_rows() -> None:
    screen = Recorder(80)
    view = SideBySide(screen, ["a", "b"])
    screen.columns = 50
    view.show(0, chunk("one "))
    view.show(1, chunk("two "))
    assert screen.output.count("\r") == 2, "the names"
    view.end(0, "")
    view.end(1, "")
    assert screen.lines()[2] == f"one{' ' * 35} | two"


def test_in_a_narrow_terminal_one_answer_follows_the_other() -> None:
    screen = Recorder(60)
    view = OneByOne(screen, ["a", "b"])
    view.show(1, chunk("uno "))
    view.show(0, chunk("one two"))
    assert screen.output == "--- a\none"
    view.end(1, "[1 token]")
    view.end(0, "[2 tokens]")
    assert screen.output == "--- a\none two\n[2 tokens]\n--- b\nuno\n[1 token]\n"


def test_the_second_answer_goes_on_streaming_when_the_first_has_ended() -> None:
    screen = Recorder(60)
    view = OneByOne(screen, ["a", "b"])
    view.show(1, chunk("uno "))
    view.end(0, "")
    view.show(1, chunk("dos tres"))
    assert screen.output == "--- a\n--- b\nuno dos"
    view.end(1, "")
    assert screen.output == "--- a\n--- b\nuno dos tres\n"


def test_an_option_starts_with_two_models(server: Server, tmp_path: Path) -> None:
    done = pipe(server, tmp_path, "Hi\n", "--model", GAVIN, "--vs", YODA)
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if line.startswith("---")] == [f"--- {GAVIN}", f"--- {YODA}"]
    gone = pipe(server, tmp_path, "Hi\n", "--model", GAVIN, "--vs", "hooli/gone")
    assert (gone.returncode, gone.stdout) == (1, "") and "There is no model hooli/gone here" in gone.stderr
