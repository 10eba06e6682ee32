"""Which base model is served, by which names."""

from pathlib import Path
from typing import Any

import pytest

from baker.errors import ConfigError
from gateway.config import Settings
from gateway.serving import base_model, embedded_model


def test_a_configured_folder_is_served_under_its_path_or_the_name_that_was_given(tmp_path: Path) -> None:
    settings, names = base_model.choose_base_model(Settings(model=str(tmp_path)), tmp_path)
    assert (settings.model, settings.name) == (tmp_path, str(tmp_path))
    assert (names.served, names.stands_in) == (str(tmp_path), False)
    settings, names = base_model.choose_base_model(Settings(model=str(tmp_path), model_name="my/model"), tmp_path)
    assert (settings.name, names.served) == ("my/model", "my/model")


def test_without_a_model_the_embedded_one_is_prepared_and_replaces_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_model, "prepare", lambda home: home / "embedded")
    settings, names = base_model.choose_base_model(Settings(model=""), tmp_path)
    assert settings.model == tmp_path / "embedded"
    assert (names.served, names.stands_in) == (embedded_model.MODEL_NAME, True)


def test_a_model_that_is_nowhere_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ConfigError, match="--model 'No/Model' is neither a folder nor a model that can be downloaded"):
        base_model.choose_base_model(Settings(model="No/Model"), tmp_path)


@pytest.mark.parametrize(("setting", "parser"), [("", None), ("none", ""), ("qwen3", "qwen3")])
def test_empty_settings_leave_the_choice_to_the_engine(tmp_path: Path, setting: str, parser: str | None) -> None:
    """A reasoning parser can also be turned off, by "none"."""
    chosen = Settings(model=str(tmp_path), reasoning_parser=setting, max_model_len=0, kv_cache_gib=0, top_logprobs=100)
    settings, _ = base_model.choose_base_model(chosen, tmp_path)
    assert (settings.reasoning_parser, settings.max_model_len, settings.kv_cache_gib) == (parser, None, None)
    assert settings.max_logprobs == 100
