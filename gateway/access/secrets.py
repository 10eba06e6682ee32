"""Secrets in files of mode 0600, and the `.env` file that the service writes for clients."""

import secrets
from pathlib import Path

from baker.storage.files import PRIVATE, write_bytes
from baker.storage.home import MASTER_KEY
from gateway.config import Settings


def master_key(settings: Settings, home: Path) -> str:
    """The configured key, else the one in `home/master.key`."""
    return settings.api_key or stored_secret(home / MASTER_KEY, "sk-bread-")


def stored_secret(file: Path, prefix: str = "") -> str:
    """The secret in `file`. If there is no such file, it is written (mode 0600): `prefix` and 256 random bits."""
    if not file.exists():
        write_bytes(file, f"{prefix}{secrets.token_urlsafe(32)}\n".encode(), PRIVATE)
    return file.read_text().strip()


def write_env_file(folder: Path, key: str, base_url: str) -> Path | None:
    """Write the service's address and key to `folder/.env` (mode 0600), for clients. None if there is such a file."""
    file = folder / ".env"
    if file.exists():
        return None
    write_bytes(file, f"BREAD_API_KEY={key}\nBREAD_BASE_URL={base_url}\n".encode(), PRIVATE)
    return file
