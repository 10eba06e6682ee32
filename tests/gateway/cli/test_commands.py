"""How the command starts and ends: help, unknown verbs, exit codes, and what it leaves alone."""

import subprocess
import sys

import pytest

from gateway import __version__
from gateway.cli.commands import MODULES, SECTIONS, bread, run
from tests.gateway.cli.conftest import Bread
from tests.service import ROOT


def test_the_help_lists_each_verb_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for verb in MODULES:
        (line,) = [line for line in lines if line.startswith(f"  {verb} ")]
        assert line.endswith(".") and len(line) <= 80, "shorten the first sentence of its docstring"
    assert [line for line in lines if line.rstrip(":") in SECTIONS] == [f"{section}:" for section in SECTIONS]


@pytest.mark.parametrize("verb", MODULES)
def test_each_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: bread {verb}")
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lgo"], "there is no verb 'lgo'"),
        (["modells"], "did you mean models"),
        (["bake"], "Missing argument 'TEXT': see `bread bake --help`"),
        (["models", "--jsno"], "Did you mean '--json': see `bread models --help`"),
        (["chat", "--temperature", "hot"], "'hot' is not a valid"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith("error: ") and words in shown.err


def test_an_unreachable_server_is_exit_code_5(bread: Bread) -> None:
    bread.environment["BREAD_BASE_URL"] = "nonsense"
    assert bread("models").code == 2
    code, out, err = Bread(bread.folder, bread._capsys, None)("--base-url", "http://127.0.0.1:9", "models")
    assert (code, out) == (5, "")
    assert "cannot reach http://127.0.0.1:9" in err and err.count("\n") == 1


def test_starting_loads_neither_the_service_nor_what_only_some_verbs_need() -> None:
    heavy = ("httpx", "rich", "dotenv", "baker", "litestar", "msgspec", "torch", "chat_with_model", "prompt_toolkit")
    code = (
        "import sys\nfrom gateway.cli.commands import run\n"
        f"run(['--help'])\nprint([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [(">/dev/full", 1, "error: the system refuses to read or write: No space left on device"), (">&-", 0, ""),
     ("2>&- >/dev/null <&-", 0, "")],
)  # fmt: skip
def test_a_full_disk_and_closed_streams_leave_no_traceback(redirection: str, code: int, words: str) -> None:
    command = f"{sys.executable} -m gateway.cli completion bash {redirection}"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (code, words)


def test_the_version_is_the_services(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"bread, version {__version__}\n"
    assert bread.name == "bread"


def test_the_docs_list_each_verb() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert [verb for verb in MODULES if f"`bread {verb}" not in page] == []
