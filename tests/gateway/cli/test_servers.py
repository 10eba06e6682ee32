"""Where the URL and the key come from, and how they are kept."""

import json
import stat
from pathlib import Path

import pytest

from gateway.cli.failures import CliError
from gateway.cli.servers import DEFAULT_URL, Server, Settings, login_file, normal_url


def settings_of(folder: Path, **environment: str) -> Settings:
    return Settings({"XDG_CONFIG_HOME": str(folder / "config"), **environment}, folder)


def test_option_environment_file_and_login_are_asked_in_this_order(tmp_path: Path) -> None:
    assert settings_of(tmp_path).server() == Server(DEFAULT_URL, None)
    settings_of(tmp_path).logins.save("http://saved", is_current=True, api_key="saved-key")
    assert settings_of(tmp_path).server() == Server("http://saved", "saved-key")
    (tmp_path / ".env").write_text("BREAD_BASE_URL=http://file/v1/\nBREAD_API_KEY=file-key\n")
    assert settings_of(tmp_path).server() == Server("http://file", "file-key")
    given = settings_of(tmp_path, BREAD_BASE_URL="http://given", BREAD_API_KEY="given-key")
    assert given.server() == Server("http://given", "given-key")
    assert given.server("http://option/") == Server("http://option", "given-key")


def test_a_saved_key_never_goes_to_another_server(tmp_path: Path) -> None:
    settings_of(tmp_path).logins.save("http://saved", is_current=True, api_key="saved-key")
    assert settings_of(tmp_path, BREAD_BASE_URL="http://other").server() == Server("http://other", None)
    assert settings_of(tmp_path).server("http://other").key is None


def test_only_the_user_can_read_the_file_and_saving_keeps_the_rest(tmp_path: Path) -> None:
    logins = settings_of(tmp_path).logins
    logins.save("http://a", is_current=True, api_key="1")
    logins.save("http://a", repo="hooli")
    logins.save("http://b", api_key="2")
    assert stat.S_IMODE(logins.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(logins.path.parent.stat().st_mode) == 0o700
    assert json.loads(logins.path.read_text()) == {
        "current": "http://a",
        "servers": {"http://a": {"api_key": "1", "repo": "hooli"}, "http://b": {"api_key": "2"}},
    }
    logins.save("http://a", api_key=None)
    assert settings_of(tmp_path).logins.of("http://a") == {"repo": "hooli"}
    assert [path.name for path in logins.path.parent.iterdir()] == ["login.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"servers": []}'])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = login_file({"XDG_CONFIG_HOME": str(tmp_path / "config")})
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(CliError, match=r"login\.json"):
        settings_of(tmp_path).server()


def test_empty_values_count_as_unset(tmp_path: Path) -> None:
    assert settings_of(tmp_path, BREAD_BASE_URL=" ").server().url == DEFAULT_URL
    assert normal_url(" http://host:1/v1/ ") == "http://host:1"
