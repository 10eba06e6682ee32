"""The engine's weights, lent to a training on the same device, which then needs no copy of its own. Called in vLLM's
worker.

What is lent are handles of memory: of CUDA's for processes on the same GPU, of shared memory on a CPU. They are good as
long as the worker lives; whoever holds them only reads.
"""

from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch.multiprocessing  # noqa: F401  # registers how tensors are pickled as handles


def handles_of(worker: Any) -> bytes | str:
    """Args: worker: vLLM's, which holds the model.

    Returns: pickled, `(weights, fused)`: the tensors by their names in vLLM's model, which are read as handles, and
    which layers vLLM has fused out of which ones of Hugging Face's, their rows below each other. Or why not, as text.
    """
    config = worker.vllm_config
    if config.parallel_config.world_size > 1:
        return "they are parted among several devices"
    if config.model_config.quantization is not None:
        return f"they are quantised ({config.model_config.quantization})"
    if config.model_config.enable_sleep_mode or config.model_config.enable_cumem_allocator:
        return "an engine that can sleep holds them where no other process can"
    if config.offload_config.uva.cpu_offload_gb or config.offload_config.prefetch.offload_group_size:
        return "some of them come and go from main memory"
    model = worker.model_runner.get_model()
    weights = {name.replace(".base_layer.", "."): weight.data for name, weight in model.named_parameters()}
    if packed := [name for name, weight in weights.items() if weight.numel() == 0]:
        return f"they are packed for this device, {packed[0]} for one"
    if elsewhere := [name for name, weight in weights.items() if weight.device.type != worker.device.type]:
        return f"they are not all on the device, {elsewhere[0]} for one"
    try:
        return bytes(ForkingPickler.dumps((weights, dict(model.packed_modules_mapping))))
    except Exception as error:  # of the driver: not all systems share memory between processes
        return f"this system gives out no handles of them: {' '.join(str(error).split())}"
