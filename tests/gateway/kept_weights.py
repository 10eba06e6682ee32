"""A worker on a CPU that keeps its weights as they were loaded, as on a GPU. On a CPU vLLM packs and then drops them.

Handles of shared memory replace CUDA's handles, and processes that are no children can open them.
"""

import torch.multiprocessing
from vllm.model_executor.layers import utils

from gateway.engine.worker.extension import WorkerExtension

__all__ = ["WorkerExtension"]

_packs = utils.dispatch_cpu_unquantized_gemm
utils.dispatch_cpu_unquantized_gemm = lambda layer, remove_weight: _packs(layer, remove_weight=False)
torch.multiprocessing.set_sharing_strategy("file_system")
