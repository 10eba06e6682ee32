"""Refuses adapters that hold NaN or infinity. Installed in vLLM's worker, on any device.

vLLM 0.32 loads them silently. One such adapter spoils more than its own answers: the NaN that it leaves in the
key-value cache turn later answers, of other models too, into token 0 (seen on CPUs, where the unused rest of a block is
multiplied by zero). Remove this when vLLM checks adapters for finite weights.
"""

import itertools
from typing import Any

import torch
from vllm.lora.worker_manager import WorkerLoRAManager


def refuse_non_finite() -> None:
    """Make `add_lora` fail for such an adapter, before another one is evicted for it. Call once."""
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
    """The tensors of a layer's A or B. `weights` is a tensor, or for fused layers a list of tensors and None."""
    return [tensor for tensor in (weights if isinstance(weights, list) else [weights]) if tensor is not None]
