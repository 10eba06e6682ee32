"""Fixtures that every test may use."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog

pytest_plugins = ["tests.gateway.application", "tests.gateway.engines"]

# Machines that test are busy with other things too: how long an example took says nothing about the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


SHARED = {"tests/clients/": "service", "tests/gateway/": "engine", "tests/behaviour/engine/": "engine"}
"""Folders whose tests share what takes long to start."""


class Shares(LoadScopeScheduling):
    """Which tests one process of pytest-xdist takes: those of a file, or of a folder whose tests share an engine or a
    service. (Its own `loadgroup` does not get along with pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((what for folder, what in SHARED.items() if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    return Shares(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: beside it there is room for the rest."""
    longest = (
        "tests/behaviour/test_first_bake",
        "tests/clients/",
        "tests/gateway/",
        "tests/behaviour/engine/",
        "tests/behaviour/test_survival",
        "tests/test_",
        "tests/behaviour/test_devices",
    )

    def place(item: pytest.Item) -> int:
        return next((at for at, start in enumerate(longest) if item.nodeid.startswith(start)), len(longest))

    items.sort(key=place)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path, BaseModelNames(served="fake/base", stands_in=True))
