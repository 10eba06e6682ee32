"""Settings, starting, and a chat without a terminal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import chat_with_model
from chat_with_model import Conversation, Screen
from tests.chat.server import KEY, MODELS, PATIENCE_SECONDS, Server, answers, contents, refuses
from tests.chat.terminal import SCRIPT, environment, pipe


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
    assert done.stderr == "error: The model can't answer yet (HTTP 503): asleep. Try again in 3 s.\n"
    assert len(server.bodies) == 2


def test_the_first_served_model_replaces_the_default_if_it_is_not_served(server: Server, tmp_path: Path) -> None:
    done = pipe(server, tmp_path, "hi")
    assert (done.stdout, done.returncode) == ("reply 1\n", 0)
    assert server.bodies[0]["model"] == MODELS[0]
    assert f"my_first_repo/gavin_bake is not served here (not baked yet?). Using {MODELS[0]} instead." in done.stderr


def test_the_first_bake_replaces_the_default_where_it_is_served(server: Server, tmp_path: Path) -> None:
    server.models.append("alice/first_bake/pirate/112")
    done = pipe(server, tmp_path, "hi")
    assert server.bodies[0]["model"] == "first_bake/pirate"
    assert "Using first_bake/pirate instead." in done.stderr


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
    assert "`make serve` writes it as BREAD_API_KEY into .env" in done.stderr


def test_commands_work_in_a_pipe_too(server: Server, tmp_path: Path) -> None:
    lines = "/models\n/system Be brief.\none\n/model alice/dagobah/yoda\n/etc/hosts is what?\n/save chat.json\n"
    lines += "/reset\ntwo\n"
    done = pipe(server, tmp_path, lines, "--model", MODELS[0])
    assert done.returncode == 0, done.stderr
    listed = "".join(f"{'*' if name == MODELS[0] else ' '} {name}\n" for name in MODELS)
    assert done.stdout == f"{listed}reply 1\nTalking to alice/dagobah/yoda (version 3).\nreply 2\nreply 3\n"
    assert [body["model"] for body in server.bodies] == [MODELS[0], "alice/dagobah/yoda", "alice/dagobah/yoda"]
    assert contents(server.bodies[2]) == ["Be brief.", "two"]
    saved = json.loads((tmp_path / "chat.json").read_text())
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert [message.get("model") for message in saved["messages"][2::2]] == [MODELS[0], "alice/dagobah/yoda"]


@pytest.mark.parametrize("line", ["/system Be brief.", " /SYSTEM   Be brief. \n", "/system\nBe brief."])
def test_a_command_may_be_written_in_several_ways(conversation: Conversation, line: str) -> None:
    assert chat_with_model.Chat(conversation, Screen(is_terminal=False, has_style=False)).handle(line)
    assert conversation.system == "Be brief."


def test_the_system_prompt_is_shown_and_removed(server: Server, tmp_path: Path) -> None:
    lines = "/system\n/system Be brief.\n/system\n/system off\none\n /usr is what?\n"
    done = pipe(server, tmp_path, lines, "--model", MODELS[0])
    shown, *answers = done.stdout.partition("System prompt: Be brief.\n")
    assert (shown, answers[1]) == ("No system prompt. /system TEXT sets one.\n", "reply 1\nreply 2\n")
    assert [contents(body)[-1] for body in server.bodies] == ["one", "/usr is what?"]
    assert "Be brief." not in str(server.bodies)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/save chat.json", "File exists"),
        ("/save", "/save FILE needs the name of a new file"),
        ("/nonsense", "Unknown command /nonsense. /help lists the commands."),
        ("/modle", "Unknown command /modle. Did you mean /model or /models?"),
        ("/sys x", "Unknown command /sys. Did you mean /system?"),
        ("/compare", "/compare NAME lets a second model answer too."),
        (
            "/model hoooli/gavin_bake",
            "There is no model hoooli/gavin_bake here. Did you mean alice/hooli/gavin_bake/21",
        ),
        ("/model gavin_cake@0.5", "There is no model gavin_cake@0.5 here. Did you mean"),
        ("/model zzz", "There is no model zzz here. /models lists the served models."),
        ("/model hooli/gavin_bake@9", "(HTTP 404): hooli/gavin_bake@9: a strength is a number from 0 to 2."),
        ("/compare yoda", "There is no model yoda here. Did you mean alice/dagobah/yoda/3?"),
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
