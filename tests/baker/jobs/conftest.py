from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.baker.jobs.test_queue import Service, running
from tests.baker.repos.filled import filled
from tests.fakes import FakeEngine

__all__ = ["filled"]  # a fixture


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(Service(tmp_path, FakeEngine())) as started:
        await started.fill()
        yield started
