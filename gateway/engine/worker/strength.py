"""Scales the update of an adapter whose name ends in `@<strength>` as it is loaded. Installed in vLLM's worker, on any
device.

The name alone carries the strength. So each strength has its own entries in vLLM's caches (the prefix cache uses the
name as key), every worker knows it whenever it loads the adapter, and there are no files to keep. This adds a feature
that vLLM 0.32 lacks; it can go when LoRARequest has a scale that is part of the cache keys.
"""

from typing import Any

from vllm.lora.worker_manager import WorkerLoRAManager

from baker.model_names import split_strength
from gateway.engine.worker.weights import parts


def scale_by_name() -> None:
    """Call before `weights.refuse_non_finite`, which then checks the scaled weights."""
    load = WorkerLoRAManager._load_adapter

    def load_scaled(self: Any, request: Any) -> Any:
        lora = load(self, request)
        _, strength = split_strength(request.lora_name)
        if strength is None:
            raise ValueError(f"the strength in {request.lora_name!r} is not allowed")
        if strength != 1.0:
            for layer in lora.loras.values():
                for tensor in parts(layer.lora_b):
                    tensor.mul_(strength)
        return lora

    WorkerLoRAManager._load_adapter = load_scaled
