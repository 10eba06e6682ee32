"""The application with scripted handlers, and a clock that tests move."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.services import Services
from tests.gateway.application import services_in
from tests.gateway.inference.scripted import Scripted


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def app_with(tmp_path: Path, scripted: Scripted) -> Callable[..., Services]:
    """Services with these settings and scripted handlers."""

    def build(**settings: Any) -> Services:
        return services_in(tmp_path, handlers=scripted, **settings)

    return build


class Clock:
    """Monotonic seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
