"""A worker on a CPU that holds its weights as they were loaded, as on a GPU: vLLM packs them there and drops them.

Handles of shared memory then stand for those of CUDA's, and can be opened by processes that are no children.
"""

import torch.multiprocessing
from vllm.model_executor.layers import utils

from gateway.engine.worker.extension import WorkerExtension

__all__ = ["WorkerExtension"]

_packs = utils.dispatch_cpu_unquantized_gemm
utils.dispatch_cpu_unquantized_gemm = lambda layer, remove_weight: _packs(layer, remove_weight=False)
torch.multiprocessing.set_sharing_strategy("file_system")
