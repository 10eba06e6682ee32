"""`python -m gateway users` against the application, and against servers that are not a Bread service."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient

from gateway.app import build_app
from gateway.cli import users
from tests.gateway.application import KEY, services_in
from tests.service import ROOT

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs the command with a password on standard input. Returns: exit code, standard output, standard error."""
    with TestClient(build_app(services_in(tmp_path))) as app:
        transport = httpx.MockTransport(app._transport.handle_request)

        def run(*arguments: str, key: str = KEY) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
            code = users.run(arguments, {"BREAD_API_KEY": key}, tmp_path, transport)
            shown = capsys.readouterr()
            return code, shown.out, shown.err

        yield run


def test_a_user_is_added_listed_and_removed(command: Command) -> None:
    code, key, errors = command("add", "alice", "--email", "alice@example.org", "--alias", "Alice\x1b[2J")
    assert (code, key.startswith("sk-bread-"), key.count("\n")) == (0, True, 1)
    assert "not shown again" in errors
    code, table, _ = command("list")
    head, row = table.splitlines()
    assert (code, head.split()) == (0, ["USER", "ALIAS", "E-MAIL", "SINCE", "KEYS"])
    assert row.split()[:3] == ["alice", "Alice?[2J", "alice@example.org"]
    assert row.endswith(key.split("-")[2])
    assert key.strip() not in table
    assert command("remove", "alice") == (0, "", "User 'alice' deleted\n")
    assert "alice" not in command("list")[1]


def test_adding_a_user_again_shows_no_key(command: Command) -> None:
    command("add", "alice", "--email", "alice@example.org")
    code, key, errors = command("add", "alice", "--email", "alice@example.org")
    assert (code, key) == (0, "")
    assert "new-key alice" in errors


def test_a_password_is_read_only_on_request(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = ("add", "alice", "--email", "alice@example.org")
    reads: list[str] = []
    read = users._password
    monkeypatch.setattr(users, "_password", lambda: reads.append(read()) or reads[-1])
    assert command(*alice)[0] == 0 and reads == []
    code, _, errors = command(*alice, "--ask-password")
    assert (code, reads) == (1, ["correct horse"]) and "password" in errors, "it is not the user's random one"
    bob = ("add", "bob", "--email", "bob@example.org", "--ask-password")
    assert command(*bob)[1].startswith("sk-bread-") and "already exists" in command(*bob)[2]
    code, _, errors = command("add", "alice", "--email", "other@example.org")
    assert (code, "another alias, e-mail or password" in errors) == (1, True)


def test_a_key_is_rotated(command: Command) -> None:
    _, old, _ = command("add", "alice", "--email", "alice@example.org")
    code, new, _ = command("new-key", "alice")
    assert (code, new != old) == (0, True)
    old_id, new_id = old.split("-")[2], new.split("-")[2]
    code, shown, errors = command("revoke", "alice", old_id)
    assert (code, shown, old_id in errors) == (0, "", True)
    listed = command("list")[1]
    assert (new_id in listed, old_id in listed) == (True, False)
    assert command("list", key=new.strip()) == (
        1,
        "",
        "gateway users: This needs the master key; this key belongs to 'alice'\n",
    )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("add", "a/b", "--email", "a@example.org"), "'/'"),
        (("add", "alice", "--email", "alice"), "user_email"),
        (("remove", "nobody"), "'nobody'"),
        (("remove", "../repo"), "no route DELETE /v1/admin/users/../repo"),
        (("new-key", "nobody"), "'nobody'"),
        (("revoke", "nobody", "0"), "'nobody'"),
    ],
)
def test_a_refusal_shows_the_services_message(command: Command, arguments: tuple[str, ...], word: str) -> None:
    code, shown, errors = command(*arguments)
    assert (code, shown, word in errors) == (1, "", True), errors


def test_options_take_precedence_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BREAD_API_KEY=file\nBREAD_BASE_URL=http://file:1\n")
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((f"{request.url.scheme}://{request.url.netloc.decode()}", request.headers["authorization"]))
        return httpx.Response(200, json={"users": []})

    transport, environment = httpx.MockTransport(answer), {"BREAD_API_KEY": "environment"}
    given = ["--base-url", "http://option:2/", "--api-key", "option"]
    for arguments in (["list"], [*given, "list"], ["list", *given]):
        assert users.run(arguments, environment, tmp_path, transport) == 0
    (tmp_path / ".env").unlink()
    assert users.run(["list"], environment, tmp_path, transport) == 0
    assert asked == [
        ("http://file:1", "Bearer environment"),
        ("http://option:2", "Bearer option"),
        ("http://option:2", "Bearer option"),
        ("http://127.0.0.1:8080", "Bearer environment"),
    ]


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (httpx.Response(200, text="<html>"), "not a Bread service"),
        (httpx.Response(502, text="Bad gateway"), "502"),
        (httpx.Response(200, json=[]), "not a Bread service"),
        (httpx.ConnectError("refused"), "no service answers at http://127.0.0.1:8080"),
    ],
)
def test_an_answer_from_something_else_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reply: httpx.Response | Exception, word: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(reply, Exception):
            raise reply
        return reply

    assert users.run(["list"], {"BREAD_API_KEY": "k"}, tmp_path, httpx.MockTransport(answer)) == 1
    assert word in capsys.readouterr().err


def test_without_a_key_or_a_valid_url_nothing_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert users.run(["list"], {}, tmp_path) == 1
    assert "BREAD_API_KEY" in capsys.readouterr().err
    assert users.run(["--api-key", "k", "--base-url", "http://host:many", "list"], {}, tmp_path) == 1
    assert "'http://host:many'" in capsys.readouterr().err


def test_help_names_all_actions_and_variables() -> None:
    def shown(*arguments: str) -> str:
        command = [sys.executable, "-m", "gateway", *arguments, "--help"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "python -m gateway users --help" in " ".join(shown().split())
    users = shown("users")
    for word in ("list", "add", "remove", "new-key", "revoke", "BREAD_BASE_URL", "BREAD_API_KEY"):
        assert word in users
    assert "--email" in shown("users", "add")
