"""Adapters with NaN or infinity."""

from pathlib import Path

import pytest

from baker.errors import AdapterError
from gateway.engine import Engine
from tests.gateway.engines import (
    make_adapter,
)

pytestmark = pytest.mark.anyio


async def test_an_adapter_of_nan_is_refused(engine: Engine, tmp_path: Path) -> None:
    """What it left in the key-value cache made later answers of the base model token 0, too."""
    path = make_adapter(tmp_path / "adapter", 1, spoil=float("nan"))
    with pytest.raises(AdapterError, match="not finite"):
        await engine.load("admin/repo/nan/1", path)
