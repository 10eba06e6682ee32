"""The master key and the .env file."""

import stat
from pathlib import Path

from gateway.access.secrets import master_key, stored_secret, write_env_file
from gateway.config import Settings, read_settings


def test_the_master_key_is_generated_once_and_is_private(tmp_path: Path) -> None:
    key = master_key(Settings(), tmp_path)
    assert len(key) > 40
    assert master_key(Settings(), tmp_path) == key
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600
    assert master_key(Settings(api_key="mine"), tmp_path) == "mine"


def test_an_env_file_is_written_once_and_never_replaced(tmp_path: Path) -> None:
    written = write_env_file(tmp_path, "k", "http://here")
    assert written is not None
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert read_settings([], {}, tmp_path).api_key == "k"
    assert write_env_file(tmp_path, "other", "http://there") is None
    assert "http://here" in written.read_text()


def test_a_secret_is_written_once_and_leaves_no_other_file(tmp_path: Path) -> None:
    secret = stored_secret(tmp_path / "a.key", "sk-")
    assert secret.startswith("sk-") and len(secret) == len("sk-") + 43, "256 bits in base64"
    assert stored_secret(tmp_path / "a.key", "other-") == secret
    assert stored_secret(tmp_path / "b.key", "sk-") != secret
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.key", "b.key"]
