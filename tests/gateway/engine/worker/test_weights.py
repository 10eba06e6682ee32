"""Adapters with NaN or infinity."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from baker.errors import AdapterError
from gateway.engine import Engine
from tests.gateway.engines import (
    make_adapter,
)

pytestmark = pytest.mark.anyio


async def test_an_adapter_of_nan_is_refused(engine: Engine, tmp_path: Path) -> None:
    """The NaN that it left in the key-value cache turned later answers, also of the base model, into token 0."""
    path = make_adapter(tmp_path / "adapter", 1, spoil=float("nan"))
    with pytest.raises(AdapterError, match="not finite"):
        await engine.load("admin/repo/nan/1", path)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_one_number_that_is_not_finite_is_enough_and_names_its_module(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    from vllm.lora.worker_manager import WorkerLoRAManager

    from gateway.engine.worker.weights import refuse_non_finite

    fine, spoiled = torch.ones(2, 3), torch.ones(2, 3)
    spoiled[1, 2] = value
    layers: dict[str, Any] = {
        "q_proj": SimpleNamespace(lora_a=fine, lora_b=fine),
        "qkv_proj": SimpleNamespace(lora_a=[fine, None, fine], lora_b=[fine, None, fine]),
    }
    monkeypatch.setattr(WorkerLoRAManager, "_load_adapter", lambda self, request: SimpleNamespace(loras=layers))
    refuse_non_finite()
    manager: Any = SimpleNamespace()
    assert WorkerLoRAManager._load_adapter(manager, None).loras is layers
    layers["qkv_proj"].lora_b[2] = spoiled
    with pytest.raises(ValueError, match="qkv_proj are not all finite"):
        WorkerLoRAManager._load_adapter(manager, None)
