"""An engine with known log-probabilities, and checkpoints that it can load."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from baker.types import Checkpoint


class LoraEngine:
    """Gives every token of an adapter the same log-probability."""

    max_lora_rank = 32
    path = Path("no base model")

    def __init__(self, logprob: float = -1.0) -> None:
        self.logprob = logprob
        self.loaded: dict[str, Path] = {}

    async def load(self, name: str, path: Path) -> None:
        self.loaded[name] = path

    async def unload(self, name: str) -> None:
        self.loaded.pop(name, None)

    def rename(self, name: str, new_name: str, path: Path) -> None:
        del self.loaded[name]
        self.loaded[new_name] = path

    async def score(self, context_ids: list[int], response_ids: list[int], adapter: str | None) -> list[float]:
        if adapter is None:
            return [-2.0 for _ in response_ids]
        assert adapter in self.loaded
        return [self.logprob for _ in response_ids]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Checkpoint]:
    def _make(step: int, job_id: int = 1, bake: str = "bake", **parity: Any) -> Checkpoint:
        path = tmp_path / str(job_id) / str(step)
        path.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
        (path / "adapter_config.json").write_bytes(msgspec.json.encode(config))
        module = "base_model.model.model.layers.0.self_attn.q_proj"
        weights = {f"{module}.lora_A.weight": np.ones((2, 8)), f"{module}.lora_B.weight": np.ones((8, 2))}
        save_file(
            {name: array.astype(np.float32) for name, array in weights.items()}, path / "adapter_model.safetensors"
        )
        sequence = {"context_ids": [1], "response_ids": [2, 3], "logprobs": [-1.0, -1.0], "base_logprobs": [-2.0, -2.0]}
        (path / "parity.json").write_bytes(
            msgspec.json.encode({"sequences": [{**sequence, **parity}], "dtype": "bfloat16"})
        )
        return Checkpoint("admin", "repo", bake, step, path, "0" * 64, 0, job_id)

    return _make
