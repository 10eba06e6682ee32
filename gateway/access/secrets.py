"""Secrets that the service keeps in files of mode 0600, and the `.env` that it writes for clients."""

import os
import secrets
from pathlib import Path

from gateway.config import Settings

KEY_FILE = "master.key"


def master_key(settings: Settings, home: Path) -> str:
    """The configured key, else the one in `home/master.key`."""
    return settings.api_key or kept_secret(home / KEY_FILE, "sk-bread-")


def kept_secret(file: Path, prefix: str = "") -> str:
    """What `file` holds; if it is not there, it is made (mode 0600) with 256 random bits after `prefix`."""
    if not file.exists():
        _write_private(file, f"{prefix}{secrets.token_urlsafe(32)}\n")
    return file.read_text().strip()


def write_env_file(folder: Path, key: str, base_url: str) -> Path | None:
    """Tell clients in `folder` where the service is and with which key; None if there is a `.env` already."""
    file = folder / ".env"
    if file.exists():
        return None
    _write_private(file, f"BREAD_API_KEY={key}\nBREAD_BASE_URL={base_url}\n")
    return file


def _write_private(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(file)
