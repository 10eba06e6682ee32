"""No adapter with NaN or infinity in it enters the engine. Called in vLLM's worker, on any device.

One such adapter spoils more than its own answers: what it leaves in the key-value cache turns the answers of later
requests, of other models too, into token 0 (seen on CPUs, where the unused rest of a block is multiplied by zero).
vLLM itself loads it without a word.
"""

import itertools
from typing import Any

import torch
from vllm.lora.worker_manager import WorkerLoRAManager


def refuse_non_finite() -> None:
    """Let `add_lora` fail for such an adapter, before it takes another one's place."""
    load = WorkerLoRAManager._load_adapter

    def load_finite(self: Any, request: Any) -> Any:
        lora = load(self, request)
        for module, layer in lora.loras.items():
            tensors = itertools.chain(parts(layer.lora_a), parts(layer.lora_b))
            if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
                raise ValueError(f"its weights for {module} are not all finite numbers")
        return lora

    WorkerLoRAManager._load_adapter = load_finite


def parts(weights: Any) -> list[torch.Tensor]:
    """The tensors of a layer's A or B: one, or of fused layers a list with gaps."""
    return [tensor for tensor in (weights if isinstance(weights, list) else [weights]) if tensor is not None]
