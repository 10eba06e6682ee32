"""Which server, key and repo a command uses, and where `bread login` keeps them.

Order: the option, the environment, `.env` in the working folder, the saved login, the default. A saved key is used only
with the URL that it was saved for.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.cli.failures import CliError, Exit

DEFAULT_URL = "http://127.0.0.1:8080"


class Server(NamedTuple):
    url: str
    """Without a slash and without `/v1` at its end."""
    key: str | None


def normal_url(url: str) -> str:
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/")


class Settings:
    """What the environment, `.env` and the saved logins say."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = environment
        self._env_file = folder / ".env"
        self._lines: Mapping[str, str | None] | None = None
        self.logins = Logins(login_file(environment))

    def value(self, name: str) -> str | None:
        """The variable's value, or the line of `.env`; empty counts as unset."""
        if text := (self._environment.get(name) or "").strip():
            return text
        if self._lines is None:
            self._lines = {}
            if self._env_file.is_file():
                from dotenv import dotenv_values

                with contextlib.suppress(OSError, ValueError):
                    self._lines = dotenv_values(self._env_file, interpolate=False)
        return (self._lines.get(name) or "").strip() or None

    def server(self, url: str | None = None) -> Server:
        """Args: url: from the option."""
        address = normal_url(url or self.value("BREAD_BASE_URL") or self.logins.current or DEFAULT_URL)
        return Server(address, self.value("BREAD_API_KEY") or self.logins.of(address).get("api_key"))

    def repo(self, url: str) -> str | None:
        """The repo for names without one."""
        return self.value("BREAD_REPO") or self.logins.of(url).get("repo")


class Logins:
    """The file with one entry for each server: its key and the current repo. Only the user can read it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: dict[str, Any] | None = None

    @property
    def current(self) -> str | None:
        """URL of the last login."""
        url = self._read().get("current")
        return url if isinstance(url, str) else None

    def of(self, url: str) -> dict[str, str]:
        entry = self._read().get("servers", {}).get(url, {})
        return entry if isinstance(entry, dict) else {}

    def save(self, url: str, *, is_current: bool = False, **fields: str | None) -> None:
        """Set fields of the server's entry; None removes one. Raises: CliError if the file can't be written."""
        content = self._read()
        servers = content.setdefault("servers", {})
        servers[url] = {name: value for name, value in {**self.of(url), **fields}.items() if value is not None}
        if is_current:
            content["current"] = url
        self._write(content)

    def _read(self) -> dict[str, Any]:
        if self._content is None:
            try:
                content = json.loads(self.path.read_text())
            except FileNotFoundError:
                content = {}
            except (OSError, ValueError) as error:
                raise CliError(
                    f"cannot read {self.path} ({error}): fix it, or delete it and run `bread login`"
                ) from None
            if not isinstance(content, dict) or not isinstance(content.get("servers", {}), dict):
                raise CliError(f"{self.path} is not a login file: delete it and run `bread login`")
            self._content = content
        return self._content

    def _write(self, content: dict[str, Any]) -> None:
        """Replace the file in one step, so that a crash leaves the old one."""
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file, indent=2)
            new.replace(self.path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise CliError(f"cannot write {self.path}: {error.strerror}", Exit.UNAVAILABLE) from error


def login_file(environment: Mapping[str, str]) -> Path:
    folder = environment.get("XDG_CONFIG_HOME", "")
    home = environment.get("HOME")
    base = Path(folder) if Path(folder).is_absolute() else Path(home or Path.home()) / ".config"
    return base / "bread" / "login.json"
