"""Lends the engine's weights to a training on the same device, which then needs no copy. Called in vLLM's worker.

The training gets handles of the memory: CUDA's for processes on the same GPU, shared memory's on a CPU. They are valid
while the worker lives, and for reading only. This adds a feature that vLLM 0.32 lacks; it corrects nothing.
"""

from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch.multiprocessing  # noqa: F401  # registers how tensors are pickled as handles


def handles_of(worker: Any) -> bytes | str:
    """Handles of the worker's weights, or the reason why they can't be lent.

    Args:
        worker: vLLM's worker, which holds the model.
    Returns: pickled `(weights, fused)`: tensors by their names in vLLM's model, pickled as handles; and for each layer
        that vLLM fused, the names of Hugging Face's layers whose rows it stacks. Or the reason, as text.
    """
    config = worker.vllm_config
    if config.parallel_config.world_size > 1:
        return "they are split across several devices"
    if config.model_config.quantization is not None:
        return f"they are quantised ({config.model_config.quantization})"
    if config.model_config.enable_sleep_mode or config.model_config.enable_cumem_allocator:
        return "an engine that can sleep keeps them in memory that no other process can open"
    if config.offload_config.uva.cpu_offload_gb or config.offload_config.prefetch.offload_group_size:
        return "some of them are offloaded to main memory"
    model = worker.model_runner.get_model()
    weights = {name.replace(".base_layer.", "."): weight.data for name, weight in model.named_parameters()}
    if packed := [name for name, weight in weights.items() if weight.numel() == 0]:
        return f"they are packed for this device, for example {packed[0]}"
    if elsewhere := [name for name, weight in weights.items() if weight.device.type != worker.device.type]:
        return f"they are not all on the device, for example {elsewhere[0]}"
    try:
        return bytes(ForkingPickler.dumps((weights, dict(model.packed_modules_mapping))))
    except Exception as error:  # raised by the driver: not all systems share memory between processes
        return f"this system can't share them between processes: {' '.join(str(error).split())}"
