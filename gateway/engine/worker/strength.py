"""An adapter whose name ends in `@<strength>` enters the engine with its update scaled. Called in vLLM's worker, on any
device.

The name alone says how much. So each strength has its own place in vLLM's caches (the prefix cache goes by names),
every worker knows it whenever it reads the adapter, and there are no files to keep.
"""

from typing import Any

from vllm.lora.worker_manager import WorkerLoRAManager

from baker.model_names import split_strength
from gateway.engine.worker.weights import parts


def scale_by_name() -> None:
    """Before `weights.refuse_non_finite`, which then sees what is served."""
    load = WorkerLoRAManager._load_adapter

    def load_scaled(self: Any, request: Any) -> Any:
        lora = load(self, request)
        _, strength = split_strength(request.lora_name)
        if strength is None:
            raise ValueError(f"{request.lora_name!r} names no strength that there is")
        if strength != 1.0:
            for layer in lora.loras.values():
                for tensor in parts(layer.lora_b):
                    tensor.mul_(strength)
        return lora

    WorkerLoRAManager._load_adapter = load_scaled
