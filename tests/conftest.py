"""Fixtures that every test may use."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from baker.catalog import Catalog
from baker.models import BaseModelNames

pytest_plugins = ["tests.gateway.engines"]

# Machines that test are busy with other things too: how long an example took says nothing about the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares an engine or a service runs in one process of pytest-xdist, the rest file by file; what takes longest
    begins first.
    """
    order = {"test_first_bake.py": 0, "service": 1, "engine": 2, "test_devices.py": 3, "test_rounds.py": 4}
    groups: dict[pytest.Item, str] = {}
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        shared = {"engine": "engine", "gateway": "service"}
        groups[item] = next((group for name, group in shared.items() if name in fixtures), item.path.name)
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    items.sort(key=lambda item: order.get(groups[item], len(order)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path, BaseModelNames(served="fake/base", stands_in=True))
