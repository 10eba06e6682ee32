"""The `bread` command against the real application, in this process and without an engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from litestar.testing import TestClient

from gateway.app import build_app
from gateway.cli.commands import run
from gateway.cli.session import Session
from gateway.routes.bread import bakes
from gateway.services import Services
from tests.gateway.application import KEY, services_in

URL = "http://gateway.local"


class Shown(NamedTuple):
    """What a command printed."""

    code: int
    out: str
    err: str


class Bread:
    """Runs commands as one user of a shell: with a home folder, an environment and a working folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], transport: httpx.BaseTransport | None) -> None:
        self.folder = folder
        self.environment = {
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "BREAD_BASE_URL": URL,
            "BREAD_API_KEY": KEY,
        }
        self._capsys = capsys
        self._transport = transport

    def session(self) -> Session:
        return Session(self.environment, self.folder, self._transport)

    def __call__(self, *arguments: str) -> Shown:
        code = run(arguments, self.session(), self.environment)
        return Shown(code, *self._capsys.readouterr())

    def get(self, path: str) -> Any:
        return self.session().client.get(path)


@pytest.fixture
def app_services(tmp_path: Path) -> Services:
    home = tmp_path / "home"
    home.mkdir()
    return services_in(home)


@pytest.fixture
def bread(
    app_services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bread]:
    monkeypatch.setattr(bakes, "WAIT_SECONDS", 0.0)  # no training ends here
    with TestClient(build_app(app_services), base_url=URL) as app:
        yield Bread(tmp_path, capsys, httpx.MockTransport(app._transport.handle_request))


@pytest.fixture
def bread_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """A command against answers that the test gives: a function from a request to its answer."""

    def made(answer: Any) -> Bread:
        return Bread(tmp_path, capsys, httpx.MockTransport(answer))

    return made
