"""One model over several devices: a copy on each (DDP), or a part on each (FSDP), both torch's own.

Either of them hangs its work on the forward of the module that it wraps. Here that forward runs any part of the model
(`Root`), since a step needs the decoder and the head's weight, not the whole model's logits.
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
    """How the model is called. Gradients are the mean of the processes'; `size` times a part is its share of a sum."""

    through: Callable[..., Any]
    """through(part, *arguments) is part(*arguments), with the weights where they are needed."""
    unsynced: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Gradients of passes within stay with their process, and join those of the next pass outside."""
    size: int = 1
    in_parts: bool = False
    """Every process must call it as often as the others."""


WHOLE = Parallel(lambda part, *arguments: part(*arguments))
"""On one device."""


class Root(nn.Module):  # type: ignore[misc]  # torch's types are not read
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, part: Callable[..., Any], *arguments: Any) -> Any:
        return part(*arguments)


def replicated(model: PreTrainedModel, ranks: Ranks) -> Parallel:
    """Args: model: the same in each process already. Copying it from the first would touch each page of its file."""
    module = DistributedDataParallel(Root(model), init_sync=False)
    return Parallel(module, module.no_sync, ranks.size)


def sharded(model: PreTrainedModel, device: torch.device, ranks: Ranks) -> Parallel:
    """Each layer of the decoder is brought together when its turn comes, forwards and backwards, and let go after it;
    embeddings, head and last norm stay together through a step.

    Args: model: in main memory; it goes to the device a layer at a time.
    """
    mesh = init_device_mesh(device.type, (ranks.size,))
    root = Root(model)
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh)
    # Gradients meet in each pass: kept apart, they would have to be whole on every device.
    return Parallel(root, nullcontext, ranks.size, in_parts=True)


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Of its decoder."""
    return next(child for child in model.get_decoder().children() if isinstance(child, nn.ModuleList))


def whole(tensor: Tensor) -> Tensor:
    """The tensor without gradient, put together if it lies in parts; then every process must ask."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """`tensor`, the same in every process, on the parameter's device and parted as it is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        # Each takes its part of its own: nothing is sent.
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return tensor
