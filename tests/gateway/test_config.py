import re
import stat
from pathlib import Path

import pytest

from baker.errors import ConfigError
from gateway.access.secrets import master_key, write_env_file
from gateway.config import Settings, environment_name, read_settings


def test_an_option_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BREAD_PORT=1\nBREAD_HOST=file\nBREAD_MODEL=file\n")
    environment = {"BREAD_PORT": "2", "BREAD_HOST": "environment"}
    settings = read_settings(["--port", "3"], environment, tmp_path)
    assert (settings.port, settings.host, settings.model, settings.home) == (3, "environment", "file", ".bread")


def test_anthropic_settings_have_anthropics_names(tmp_path: Path) -> None:
    settings = read_settings([], {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://here"}, tmp_path)
    assert (settings.anthropic_api_key, settings.anthropic_base_url) == ("k", "http://here")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(["--max-lora-rank", "7"], {"BREAD_PORT": "many", "BREAD_STIM_FALLBACK": "maybe"}, tmp_path)
    for word in ("BREAD_PORT", "many", "BREAD_STIM_FALLBACK", "maybe", "--max-lora-rank", "7"):
        assert word in raised.value.message


def test_help_names_every_setting_and_its_variable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(["--help"], {}, tmp_path)
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in Settings.__struct_fields__:
        option = field.replace("_", "-")
        assert re.search(rf"--{option} (VALUE|\S+\|\S+)", shown), field
        assert f"[{environment_name(field)}; default:" in shown


def test_the_master_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    key = master_key(Settings(), tmp_path)
    assert len(key) > 40
    assert master_key(Settings(), tmp_path) == key
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600
    assert master_key(Settings(api_key="mine"), tmp_path) == "mine"


def test_an_env_file_is_written_if_there_is_none_and_never_replaced(tmp_path: Path) -> None:
    written = write_env_file(tmp_path, "k", "http://here")
    assert written is not None
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert read_settings([], {}, tmp_path).api_key == "k"
    assert write_env_file(tmp_path, "other", "http://there") is None
    assert "http://here" in written.read_text()
