"""Settings from options, environment, .env file and defaults."""

import re
from pathlib import Path

import pytest

from baker.errors import ConfigError
from gateway.config import Settings, environment_name, read_settings


def test_options_take_precedence_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BREAD_PORT=1\nBREAD_HOST=file\nBREAD_MODEL=file\n")
    environment = {"BREAD_PORT": "2", "BREAD_HOST": "environment"}
    settings = read_settings(["--port", "3"], environment, tmp_path)
    assert (settings.port, settings.host, settings.model, settings.home) == (3, "environment", "file", ".bread")


def test_anthropic_settings_have_anthropics_names(tmp_path: Path) -> None:
    settings = read_settings([], {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://here"}, tmp_path)
    assert (settings.anthropic_api_key, settings.anthropic_base_url) == ("k", "http://here")


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
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


def test_an_empty_text_means_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BREAD_HOST=file\n")
    settings = read_settings(["--host", ""], {"BREAD_PORT": ""}, tmp_path)
    assert (settings.host, settings.port) == (Settings().host, Settings().port)
