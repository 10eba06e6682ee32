"""The story's repo."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.baker.comparison.story import Story


@pytest.fixture
async def story(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Story]:
    story = Story(tmp_path)
    await story.grow_all()
    yield story
    await story.close()
