"""Settings from options, environment, .env file and defaults."""

import re
from pathlib import Path
from typing import Literal, get_origin

import msgspec
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
    for word in ("variable BREAD_PORT", "many", "BREAD_STIM_FALLBACK", "maybe", "--max-lora-rank", "7"):
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


CHOICES = {
    "max_lora_rank": ("33", "8, 16, 32, 64, 128, 256, 320, 512"),
    "stim_fallback": ("yes", "on, off"),
    "share_weights": ("true", "on, off"),
    "tokenizer_info": ("1", "on, off"),
    "wandb": ("1", "on, off"),
    "log_level": ("warn", "debug, info, warning, error; did you mean 'warning'?"),
    "log_format": ("jsonl", "text, json; did you mean 'json'?"),
    "log_prompts": ("On", "on, off; did you mean 'on'?"),
}


@pytest.mark.parametrize("field", CHOICES)
def test_a_setting_with_few_choices_names_them_and_where_it_was_given(tmp_path: Path, field: str) -> None:
    value, allowed = CHOICES[field]
    name, option = environment_name(field), f"--{field.replace('_', '-')}"
    with pytest.raises(ConfigError) as raised:
        read_settings([option, value], {}, tmp_path)
    assert raised.value.message == f"{option} is {value!r}; allowed: {allowed}"
    with pytest.raises(ConfigError) as raised:
        read_settings([], {name: value}, tmp_path)
    assert raised.value.message == f"the variable {name} is {value!r}; allowed: {allowed}"
    (tmp_path / ".env").write_text(f"# settings\n{name}={value}\n")
    with pytest.raises(ConfigError) as raised:
        read_settings([], {}, tmp_path)
    assert raised.value.message == f"the line {name} ({option}) of {tmp_path}/.env is {value!r}; allowed: {allowed}"


def test_every_setting_with_few_choices_is_tried() -> None:
    literals = {
        field.name for field in msgspec.structs.fields(Settings) if get_origin(field.type.__origin__) is Literal
    }
    assert literals == set(CHOICES)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("port", "70000", "<= 65535"),
        ("top_logprobs", "0", ">= 1"),
        ("gpu_memory_utilization", "90%", "Expected `float`"),
        ("max_waiting", "-1", ">= 0"),
    ],
)
def test_a_number_out_of_range_names_the_range_and_where_it_was_given(
    tmp_path: Path, field: str, value: str, words: str
) -> None:
    name = environment_name(field)
    (tmp_path / ".env").write_text(f"{name}={value}\n")
    with pytest.raises(ConfigError, match=rf"the line {name} .*\.env is '{value}': .*{words}"):
        read_settings([], {}, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-lora-ranks", "16"], "--max-lora-ranks is not an option; did you mean '--max-lora-rank'?"),
        (["--max_loras=4"], "--max_loras is not an option; did you mean '--max-loras'?"),
        (["--zzz", "--prot", "1"], "--zzz is not an option; --prot is not an option; did you mean '--port'?"),
        (["serve"], "serve is not an option"),
    ],
)
def test_an_unknown_option_is_refused_with_a_hint(tmp_path: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(arguments, {}, tmp_path)
    assert raised.value.message == words
