"""Tests the chat against a small real server: its conversation, its terminal loop in a pty, its pipe mode.

`open_chat` starts it in a terminal against any base URL, so that end-to-end tests can use it with the real gateway.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest

import chat_with_model
from chat_with_model import ChatClient, ChatError, Chunk, Conversation

SCRIPT = Path(chat_with_model.__file__)
KEY = "sk-test"
MODELS = ["base/Smol-135M", "alice/hooli/gavin_bake/21", "alice/hooli/gavin_bake/7", "alice/dagobah/yoda/3"]
PATIENCE_SECONDS = 30  # only a hang takes this long

# Python 3.12 warns when a process with threads (here the server's) forks; the child only calls exec.
pytestmark = pytest.mark.filterwarnings("ignore:.*forkpty.*:DeprecationWarning")


# The server: OpenAI's wire format, and ways in which it can fail.

Behaviour = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()  # reserves a port; connections are refused until `serving`
        self.models = list(MODELS)
        self.next: list[Behaviour] = []  # behaviour for the next chat requests; after those, a normal answer
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.reached = threading.Event()  # a chat request has arrived
        self.dropped = threading.Event()  # a client closed its connection during an answer
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        if self.path == "/v1/models":
            self.reply(
                200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]}
            )
        else:
            self.reply(404, {"error": {"message": f"no route {self.path}"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers["Authorization"])
        self.server.bodies.append(body)
        self.server.reached.set()
        behaviour = self.server.next.pop(0) if self.server.next else answers(f"reply {len(self.server.bodies)}")
        behaviour(self)

    def reply(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def send_delta(self, finish_reason: str | None = None, **delta: Any) -> None:
        self.send(event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}))


def event(body: Any) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def answers(*words: str, finish_reason: str = "stop", thought: str = "") -> Behaviour:
    def behave(handler: Handler) -> None:
        handler.start_stream()
        handler.send_delta(role="assistant", content="")
        if thought:
            handler.send_delta(reasoning_content=thought)
        for word in words:
            handler.send_delta(content=word)
        handler.send_delta(finish_reason)
        handler.send(event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 42}}))
        handler.send(b"data: [DONE]\n\n")
        handler.send(b"")

    return behave


def sends(*pieces: bytes) -> Behaviour:
    """Stream exactly these bytes, in these pieces, and end the response properly."""

    def behave(handler: Handler) -> None:
        handler.start_stream()
        for piece in (*pieces, b""):
            handler.send(piece)

    return behave


def refuses(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Behaviour:
    return lambda handler: handler.reply(status, body, headers)


def breaks_after(*words: str) -> Behaviour:
    """Close the connection in the middle of the answer."""

    def behave(handler: Handler) -> None:
        handler.start_stream()
        for word in words:
            handler.send_delta(content=word)
        handler.close_connection = True

    return behave


def never_ends(*words: str) -> Behaviour:
    """After the words, send empty deltas until the client leaves."""

    def behave(handler: Handler) -> None:
        handler.start_stream()
        for word in words:
            handler.send_delta(content=word)
        try:
            while not handler.server.closing.wait(0.01):
                handler.send_delta(content="")
        except OSError:
            handler.server.dropped.set()

    return behave


@contextmanager
def serving(server: Server) -> Iterator[None]:
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server, serving(server):
        yield server


@pytest.fixture
def conversation(server: Server) -> Iterator[Conversation]:
    client = ChatClient(server.url, KEY)
    yield Conversation(client, "hooli/gavin_bake", temperature=0.5)
    client.close()


def ignore(chunk: Chunk) -> None:
    """For tests that don't use the pieces of an answer."""


def contents(body: Mapping[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"]]


# The conversation and its client.


def test_an_answer_is_streamed_piece_by_piece_and_measured(server: Server, conversation: Conversation) -> None:
    server.next = [answers("Tres", " Comas")]
    pieces: list[str] = []
    turn = conversation.ask("Who are you?", lambda chunk: pieces.append(chunk.text))
    assert pieces == ["Tres", " Comas"]
    assert (turn.answer, turn.ending, turn.tokens) == ("Tres Comas", "complete", 42)
    assert turn.first_token_seconds is not None
    assert turn.tokens_per_second is not None
    assert "42 tokens" in turn.summary()
    assert "tokens/s" in turn.summary()
    assert "first token after" in turn.summary()
    assert server.keys == [f"Bearer {KEY}"]
    body = server.bodies[0]
    assert body["model"] == "hooli/gavin_bake"
    assert body["stream_options"] == {"include_usage": True}
    assert body["temperature"] == 0.5


def test_a_question_is_sent_with_the_system_prompt_and_the_history(server: Server, conversation: Conversation) -> None:
    conversation.system = "Be brief."
    conversation.ask("one", ignore)
    conversation.ask("two", ignore)
    assert server.bodies[1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "reply 1"},
        {"role": "user", "content": "two"},
    ]


def test_events_may_be_cut_anywhere(server: Server, conversation: Conversation) -> None:
    text = "naïve \u2028 \U0001f35e bread"  # U+2028 ends a line for str.splitlines, but not in an event stream
    wire = b": ping\r\n\r\n" + event({"choices": [{"delta": {"content": text}}]}).replace(b"\n", b"\r\n")
    wire += b"data:" + event({"choices": [{"delta": {"content": None}, "finish_reason": "stop"}]})[6:]
    server.next = [sends(*(bytes([byte]) for byte in wire + b"data: [DONE]\n\n"))]
    assert conversation.ask("hi", ignore).answer == text


def test_control_characters_and_lone_surrogates_never_arrive(server: Server, conversation: Conversation) -> None:
    server.next = [
        sends(rb'data: {"choices":[{"delta":{"content":"a\u001b]0;x\u0007\u009b31m\r\n\tb\ud83d"}}]}', b"\n")
    ]
    shown: list[str] = []
    with pytest.raises(ChatError, match="before it was complete"):
        conversation.ask("hi\x1b[2J", lambda chunk: shown.append(chunk.text))
    assert shown == ["a]0;x31m\n\tb\ufffd"]
    assert contents(server.bodies[0]) == ["hi[2J"]
    server.models = ["evil\x1b[2J"]
    assert conversation.client.models() == ["evil[2J"]


def test_a_thought_is_shown_but_is_not_part_of_the_answer(server: Server, conversation: Conversation) -> None:
    server.next = [answers("Yes.", thought="Hmm.")]
    chunks: list[Chunk] = []
    assert conversation.ask("sure?", chunks.append).answer == "Yes."
    assert [chunk.thought + chunk.text for chunk in chunks] == ["Hmm.", "Yes."]


def test_an_answer_cut_by_the_token_limit_is_marked(server: Server, conversation: Conversation) -> None:
    server.next = [answers("On and", finish_reason="length")]
    turn = conversation.ask("go", ignore)
    assert turn.ending == "cut"
    assert turn.summary().startswith("[cut, ")


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (
            refuses(401, {"error": {"message": "bad key", "type": "auth"}}),
            "HTTP 401: bad key - the key is BREAD_API_KEY",
        ),
        (refuses(404, {"error": {"message": "no model x; near: y"}}), "HTTP 404: no model x; near: y - /models lists"),
        (refuses(503, {"error": {"message": "asleep"}}, {"Retry-After": "7"}), "HTTP 503: asleep .* wait 7 s"),
        (refuses(422, {"message": "bad", "error": "bad field"}), "HTTP 422: bad field"),
        (refuses(400, {"detail": "no such thing"}), "HTTP 400: no such thing"),
        (refuses(502, "<html>\x1b[2Jproxy"), r"HTTP 502: <html>\[2Jproxy"),
        (refuses(500, ""), "HTTP 500: no reason given"),
        (refuses(200, "<html>hello"), "HTTP 200: <html>hello"),
        (sends(b'data: {"error": {"message": "out of memory"}}\n\n'), "gave up on the answer: out of memory"),
        (sends(b"data: {not json\n\n"), "does not speak OpenAI's chat API"),
        (sends(b"data: [1]\n\n"), "does not speak OpenAI's chat API"),
        (sends(b'data: {"choices": [{"delta": {}, "finish_reason": "abort"}]}\n\n'), "before it was complete"),
        (breaks_after(), "connection to .* broke"),
    ],
)
def test_a_failed_question_leaves_the_history_alone_and_can_be_retried(
    server: Server, conversation: Conversation, behaviour: Behaviour, message: str
) -> None:
    conversation.ask("one", ignore)
    server.next = [behaviour]
    with pytest.raises(ChatError, match=message):
        conversation.ask("two", ignore)
    assert conversation.unanswered == "two"
    assert [turn.question for turn in conversation.turns] == ["one"]
    assert conversation.retry(ignore).answer == "reply 3"
    assert contents(server.bodies[2]) == ["one", "reply 1", "two"]
    assert conversation.unanswered is None


def test_a_failed_question_is_dropped_when_the_next_is_answered(server: Server, conversation: Conversation) -> None:
    server.next = [refuses(503, {})]
    with pytest.raises(ChatError):
        conversation.ask("one", ignore)
    conversation.ask("two", ignore)
    assert contents(server.bodies[1]) == ["two"]
    assert conversation.unanswered is None


@pytest.mark.parametrize(
    "behaviour", [breaks_after("half an"), sends(event({"choices": [{"delta": {"content": "half an"}}]}))]
)
def test_a_broken_answer_is_kept_as_broken_and_replaced_by_a_retry(
    server: Server, conversation: Conversation, behaviour: Behaviour
) -> None:
    server.next = [behaviour, refuses(503, {})]
    with pytest.raises(ChatError):
        conversation.ask("one", ignore)
    broken = conversation.turns
    assert [(turn.answer, turn.ending) for turn in broken] == [("half an", "broken")]
    with pytest.raises(ChatError):
        conversation.retry(ignore)
    assert conversation.turns == broken, "a failed retry must keep the old answer"
    conversation.retry(ignore)
    assert [(turn.answer, turn.ending) for turn in conversation.turns] == [("reply 3", "complete")]
    assert contents(server.bodies[2]) == ["one"]


def test_an_interrupt_closes_the_connection_and_keeps_the_partial_answer(
    server: Server, conversation: Conversation
) -> None:
    server.next = [never_ends("I was")]

    def interrupt(chunk: Chunk) -> None:
        raise KeyboardInterrupt

    turn = conversation.ask("one", interrupt)
    assert (turn.answer, turn.ending) == ("I was", "stopped")
    assert server.dropped.wait(PATIENCE_SECONDS)
    conversation.ask("two", ignore)
    assert contents(server.bodies[1]) == ["one", "I was", "two"]
    messages = conversation.transcript()["messages"]
    assert messages[1] == {"role": "assistant", "content": "I was", "model": "hooli/gavin_bake", "ending": "stopped"}


def test_an_empty_answer_stays_out_of_the_history(server: Server, conversation: Conversation) -> None:
    server.next = [answers()]
    turn = conversation.ask("one", ignore)
    assert (turn.answer, turn.ending) == ("", "complete")
    assert "no answer" in turn.summary()
    assert conversation.turns == []
    assert conversation.unanswered == "one"


def test_there_is_nothing_to_retry_at_first(conversation: Conversation) -> None:
    with pytest.raises(ChatError, match="no question"):
        conversation.retry(ignore)


def test_a_server_that_is_down_is_named() -> None:
    with Server() as down:
        client = ChatClient(down.url, KEY)
        with pytest.raises(ChatError, match=f"Cannot reach {down.url} "):
            client.models()
        client.close()


@pytest.mark.parametrize(("url", "key"), [("http://127.0.0.1:port", KEY), ("http://127.0.0.1", "clé")])
def test_an_impossible_url_or_key_is_refused(url: str, key: str) -> None:
    with pytest.raises(ChatError, match="Cannot use base URL"):
        ChatClient(url, key)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost", "ftp://127.0.0.1", "http://127.0.0.1:65537"])
def test_the_error_names_a_url_that_can_t_be_reached(url: str) -> None:
    with pytest.raises(ChatError, match=f"Cannot (reach|use base URL) '?{url}"):
        ChatClient(url, KEY).models()


def test_a_base_url_may_end_in_v1(server: Server) -> None:
    client = ChatClient(f"{server.url}/v1/", KEY)
    assert client.models() == MODELS
    client.close()


# Names and settings.


@pytest.mark.parametrize(
    "name",
    [*MODELS, "hooli/gavin_bake", "hooli/gavin_bake/21", "alice/hooli/gavin_bake", "hooli/gavin_bake@0.5"],
)
def test_a_model_is_served_under_every_spelling_of_its_name(name: str) -> None:
    assert chat_with_model.is_served(name, MODELS)


@pytest.mark.parametrize("name", ["hooli/gavin", "gavin_bake", "hooli/gavin_bake/2", "bob/hooli/gavin_bake", ""])
def test_part_of_a_name_is_not_served(name: str) -> None:
    assert not chat_with_model.is_served(name, MODELS)


def test_options_come_before_the_environment_before_dotenv_before_the_constants() -> None:
    names = {"BREAD_API_KEY": "api_key", "BREAD_BASE_URL": "base_url", "MODEL_NAME": "model"}
    environment = {"BREAD_API_KEY": "env", "BREAD_BASE_URL": "env", "MODEL_NAME": ""}
    dotenv = {"BREAD_API_KEY": "file", "BREAD_BASE_URL": "file", "MODEL_NAME": "file"}
    given = vars(chat_with_model.read_options(["--api-key", "option"], environment, dotenv))
    assert [given[name] for name in names.values()] == ["option", "env", "file"]
    default = chat_with_model.read_options([], {}, {"MODEL_NAME": None})
    assert (default.api_key, default.base_url) == (chat_with_model.BREAD_API_KEY, chat_with_model.BASE_URL)
    assert default.model == "", "main must see that the user chose no model"


# Pipe mode and starting.


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


def test_a_pipe_gets_an_answer_per_line(server: Server, tmp_path: Path) -> None:
    done = pipe(
        server, tmp_path, "one\n\ntwo\nq\nthree\n", "--model", "base/Smol-135M", "--system", "Hi", "--max-tokens", "5"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("reply 1\nreply 2\n", "", 0)
    assert contents(server.bodies[1]) == ["Hi", "one", "reply 1", "two"]
    assert server.bodies[0]["max_tokens"] == 5


def test_a_pipe_ends_at_an_error(server: Server, tmp_path: Path) -> None:
    server.next = [answers("fine"), refuses(503, {"error": {"message": "asleep"}}, {"Retry-After": "3"})]
    done = pipe(server, tmp_path, "one\ntwo\nthree\n", "--model", "base/Smol-135M")
    assert (done.stdout, done.returncode) == ("fine\n", 1)
    assert done.stderr == "error: HTTP 503: asleep - the server asks to wait 3 s.\n"
    assert len(server.bodies) == 2


def test_the_first_served_model_replaces_the_default_if_it_is_not_served(server: Server, tmp_path: Path) -> None:
    done = pipe(server, tmp_path, "hi")
    assert (done.stdout, done.returncode) == ("reply 1\n", 0)
    assert server.bodies[0]["model"] == MODELS[0]
    assert f"my_first_repo/gavin_bake is not served here (not baked yet?). Using {MODELS[0]} instead." in done.stderr


def test_a_chosen_model_is_never_replaced(server: Server, tmp_path: Path) -> None:
    server.next = [refuses(404, {"error": {"message": "no such model"}})]
    done = pipe(server, tmp_path, "hi", MODEL_NAME="my_first_repo/gavin_bake")
    assert (done.stdout, done.returncode) == ("", 1)
    assert server.bodies[0]["model"] == "my_first_repo/gavin_bake"
    assert "no such model" in done.stderr


def test_dotenv_of_the_working_folder_is_read(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"BREAD_API_KEY=sk-from-$file\nBREAD_BASE_URL={server.url}\nMODEL_NAME=a/b\n")
    done = pipe(server, tmp_path, "hi", BREAD_API_KEY="", BREAD_BASE_URL="")
    assert (done.stdout, done.stderr) == ("reply 1\n", "")
    assert server.keys == ["Bearer sk-from-$file"]
    assert server.bodies[0]["model"] == "a/b"


def test_a_missing_key_says_where_to_find_it(server: Server, tmp_path: Path) -> None:
    done = pipe(server, tmp_path, "hi", BREAD_API_KEY="")
    assert done.returncode == 1
    assert "No API key. `make serve` writes it as BREAD_API_KEY into .env" in done.stderr


def test_commands_work_in_a_pipe_too(server: Server, tmp_path: Path) -> None:
    lines = "/models\n/system Be brief.\none\n/model alice/dagobah/yoda\n/etc/hosts is what?\n/save chat.json\n"
    lines += "/reset\ntwo\n"
    done = pipe(server, tmp_path, lines, "--model", MODELS[0])
    assert done.returncode == 0, done.stderr
    listed = "".join(f"{'*' if name == MODELS[0] else ' '} {name}\n" for name in MODELS)
    assert done.stdout == f"{listed}reply 1\nTalking to alice/dagobah/yoda\nreply 2\nreply 3\n"
    assert [body["model"] for body in server.bodies] == [MODELS[0], "alice/dagobah/yoda", "alice/dagobah/yoda"]
    assert contents(server.bodies[2]) == ["Be brief.", "two"]
    saved = json.loads((tmp_path / "chat.json").read_text())
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert [message.get("model") for message in saved["messages"][2::2]] == [MODELS[0], "alice/dagobah/yoda"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/save chat.json", "File exists"),
        ("/save", "/save FILE cannot write"),
        ("/nonsense", "Unknown command /nonsense. Commands: "),
    ],
)
def test_a_wrong_command_is_explained(server: Server, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "chat.json").write_text("precious")
    done = pipe(server, tmp_path, line, "--model", MODELS[0])
    assert done.returncode == 1
    assert message in done.stderr
    assert (tmp_path / "chat.json").read_text() == "precious"


def test_text_that_is_not_utf8_does_not_end_the_chat(server: Server, tmp_path: Path) -> None:
    server.next = [answers("na\u00efve")]
    variables = environment(tmp_path, PYTHONIOENCODING="ascii", BREAD_BASE_URL=server.url, BREAD_API_KEY=KEY)
    command = [sys.executable, str(SCRIPT), "--model", "a/b"]
    done = subprocess.run(command, input=b"caf\xff\n", capture_output=True, cwd=tmp_path, env=variables, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (b"na?ve\n", b"", 0)
    assert contents(server.bodies[0]) == ["caf\ufffd"]


def test_a_reader_that_leaves_early_causes_no_crash(server: Server, tmp_path: Path) -> None:
    server.next = [answers("one\n", "two\n", "three\n")]
    variables = environment(tmp_path, BREAD_BASE_URL=server.url, BREAD_API_KEY=KEY)
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--model", "a/b"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables, cwd=tmp_path,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        child.stdin.write(b"hi\n")
        child.stdin.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1


def test_help_names_every_option(server: Server, tmp_path: Path) -> None:
    done = pipe(server, tmp_path, "", "--help", BREAD_API_KEY="sk-secret")
    assert done.returncode == 0
    for option in ("--api-key", "--base-url", "--model", "--system", "--temperature", "--max-tokens"):
        assert option in done.stdout
    assert "sk-secret" not in done.stdout


@pytest.fixture
def script_copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(SCRIPT, tmp_path))


def run_without_packages(script: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", str(script), "--model", "a b"]  # -S: no site-packages, as in a bare python3
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(script.parent), timeout=PATIENCE_SECONDS
    )


def write_interpreter(folder: Path, text: str) -> None:
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{text}\n")
    python.chmod(0o755)


def test_without_its_packages_it_restarts_in_the_venv_beside_it(script_copy: Path) -> None:
    write_interpreter(script_copy.parent, 'printf "%s;" "$@"')
    assert run_without_packages(script_copy).stdout == f"{script_copy};--model;a b;"


@pytest.mark.parametrize("has_broken_venv", [False, True])
def test_without_packages_and_venv_it_says_so_once(script_copy: Path, has_broken_venv: bool) -> None:
    if has_broken_venv:
        write_interpreter(script_copy.parent, f'exec {sys.executable} -S "$@"')
    done = run_without_packages(script_copy)
    assert done.returncode == 1
    assert done.stderr.count("needs httpx, prompt-toolkit and python-dotenv; `make serve` installs them") == 1


# The terminal.

UP, ALT_ENTER, PASTE, PASTE_END = "\x1b[A", "\x1b\r", "\x1b[200~", "\x1b[201~"


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

    def end(self, keys: str) -> None:
        self.type(keys)
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert (self.child.exitstatus, self.child.signalstatus) == (0, None)


def open_chat(base_url: str, folder: Path, *arguments: str, **more: str) -> Terminal:
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
        dimensions=(40, 160),
        # Tests that a shell runs in the background ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    child.delaybeforesend = None  # no pause before each key: the tests wait for prompts
    terminal = Terminal(child)
    terminal.prompt()
    return terminal


@pytest.fixture
def terminal(server: Server, tmp_path: Path) -> Iterator[Terminal]:
    terminal = open_chat(server.url, tmp_path, "--model", "hooli/gavin_bake")
    yield terminal
    terminal.child.close(force=True)


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
    server.next = [never_ends("It all", " began")]
    terminal.type("Tell me\r")
    terminal.wait("It all began")
    terminal.type("\x03")
    terminal.wait("[stopped, first token after ")
    assert server.dropped.wait(PATIENCE_SECONDS), "the connection must close, or the server would continue"
    terminal.prompt()
    terminal.ask("And then?", "reply 2")
    assert contents(server.bodies[1]) == ["Tell me", "It all began", "And then?"]
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
    terminal.ask("hi", "HTTP 404: unknown model - /models lists the served models.")
    terminal.ask("/model hoooli/gavin_bake", "picks another: alice/hooli/gavin_bake")
    terminal.ask("/model hooli/gavin_bake", "Talking to hooli/gavin_bake")
    terminal.ask("hi", "reply 2")
    terminal.end("q\r")


def test_the_conversation_survives_errors(server: Server, terminal: Terminal) -> None:
    terminal.ask("one", "reply 1")
    server.next = [refuses(503, {"error": {"message": "asleep"}}, {"Retry-After": "3"}), breaks_after("half")]
    terminal.type("two\r")
    terminal.wait("error: HTTP 503: asleep - the server asks to wait 3 s.")
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
    server.next = [never_ends("Once")]
    terminal.type("hi\r")
    terminal.wait("Once")
    os.kill(terminal.child.pid, signal.SIGINT)
    terminal.wait("[stopped")
    terminal.prompt()
    terminal.end("q\r")
