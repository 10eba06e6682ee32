"""Fixtures that every test may use."""

from pathlib import Path

import pytest

from baker.catalog import Catalog
from baker.models import BaseModelNames

pytest_plugins = ["tests.gateway.engines"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path, BaseModelNames(served="fake/base", stands_in=True))
