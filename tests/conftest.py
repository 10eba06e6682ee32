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


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path, BaseModelNames(served="fake/base", stands_in=True))
