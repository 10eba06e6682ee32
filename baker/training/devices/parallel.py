"""Runs one model on several devices: a copy on each (torch's DDP), or a part on each (torch's FSDP).

Both attach their work to the forward of the module that they wrap. Here that forward runs any part of the model
(`Root`), because a step needs the decoder and the head's weight, not the logits of the whole model.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from baker.training.devices.ranks import Ranks


class Parallel(NamedTuple):
    """How the model is called. Gradients are averaged over the processes: a process multiplies its part of a sum by
    `size`."""

    call: Callable[..., Any]
    """call(part, *arguments) returns part(*arguments), computed with the weights in place."""
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Gradients of passes inside stay in their process, and are averaged with those of the next pass outside."""
    size: int = 1
    """Number of processes."""
    is_sharded: bool = False
    """Whether each device holds a part of the weights. Then every process must make the same number of calls."""


ONE_DEVICE = Parallel(lambda part, *arguments: part(*arguments))


class Root(nn.Module):  # type: ignore[misc]  # torch's types are not read
    """The module that DDP or FSDP wraps; its forward calls `part`, which uses the model."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, part: Callable[..., Any], *arguments: Any) -> Any:
        return part(*arguments)


def replicated(model: PreTrainedModel, ranks: Ranks) -> Parallel:
    """Args: model: equal in all processes already. To copy it from the first would touch each page of its file."""
    module = DistributedDataParallel(Root(model), init_sync=False)
    return Parallel(module, module.no_sync, ranks.size)


def sharded(model: PreTrainedModel, device: torch.device, ranks: Ranks) -> Parallel:
    """Each decoder layer is gathered just before it computes, forwards and backwards, and released after; embeddings,
    head and last norm stay gathered through a step.

    Args: model: in main memory; it moves to the device a layer at a time.
    """
    mesh = init_device_mesh(device.type, (ranks.size,))
    root = Root(model)
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh)
    # Gradients are averaged in each pass: unsynchronised ones would have to be full-sized on every device.
    return Parallel(root, nullcontext, ranks.size, is_sharded=True)


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of the model's decoder."""
    return next(child for child in model.get_decoder().children() if isinstance(child, nn.ModuleList))


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor without gradient, gathered if it is sharded; then every process must call it."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def distribute_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """`tensor`, equal in all processes, on the parameter's device and sharded as the parameter is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        # Each process takes its part of its own copy: nothing is sent.
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return tensor
