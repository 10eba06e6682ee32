"""`bread login` keeps a key only after the server has accepted it."""

import io
import sys

import pytest

from tests.gateway.cli.conftest import URL, Bread


@pytest.fixture
def stranger(bread: Bread) -> Bread:
    """Has neither a key nor a URL."""
    bread.environment = {name: value for name, value in bread.environment.items() if not name.startswith("BREAD_")}
    return bread


def test_a_key_from_a_pipe_is_kept_and_used(stranger: Bread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-bread-test\n"))
    code, out, _ = stranger("login", f"{URL}/v1/")
    assert (code, out.startswith(f"Logged in to {URL}. The key is in ")) == (0, True)
    assert "sk-bread-test" not in out
    assert stranger("models").code == 0
    assert stranger("login", URL, "--forget").code == 0
    assert stranger("models").code == 5


def test_a_wrong_key_is_not_kept(stranger: Bread, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, code in (("sk-wrong\n", 5), ("\n", 2)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(key))
        assert stranger("login", URL).code == code
    assert not (stranger.folder / "config").exists()


def test_it_says_what_takes_precedence(bread: Bread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-bread-test\n"))
    assert "BREAD_API_KEY in the environment or .env takes precedence" in bread("login").err
