"""A base model on the engine's own weights: a training beside the engine on one GPU needs no second copy.

The engine hands out handles of its memory (`gateway/engine/worker/lending.py`). The model is read from its files into
main memory; then each of its weights is replaced by a view of the engine's, if both are equal to the bit. Nothing ever
writes to them: the base is frozen, and adapters have weights of their own.
"""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from baker.errors import NotLentError
from baker.training.model.base import from_files

COMPARED = 1 << 25
"""Number of elements that are compared at a time."""


class Lent(NamedTuple):
    weights: Mapping[str, Tensor]
    """The engine's weights, by its own names."""
    fused: Mapping[str, Sequence[str]]
    """Fused layers: the engine's name, and the layers whose rows it stacks, such as `qkv_proj` for q, k and v."""


def open_lent(handles: Path) -> Lent:
    """The engine's weights, valid while the engine lives.

    Args: handles: a file that the service wrote for this process. Open it only once, since torch counts the openings.
        It is unpickled: never pass a file from elsewhere.
    Raises: NotLentError.
    """
    try:
        return Lent(*pickle.loads(handles.read_bytes()))
    except Exception as error:  # from the file, the driver, or an engine that has ended
        raise NotLentError(f"its memory can't be opened: {' '.join(str(error).split())}") from error


def from_engine(lent: Lent, folder: Path, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """`base.from_files`, with the engine's weights.

    Raises: StageError as `from_files`; NotLentError if the engine's weights are missing or differ.
    """
    model = from_files(folder, dtype, attention)
    sizes = {name: weight.shape[0] for name, weight in model.named_parameters() if weight.ndim}
    views = {name: _view(lent, name, sizes) for name, _ in model.named_parameters()}
    for name, weight in model.named_parameters():
        if not _is_same(views[name], weight.data):
            raise NotLentError(f"its {name} is not that of {folder} in {dtype}")
    for name, weight in model.named_parameters():
        weight.data = views[name]
    return model


def _view(lent: Lent, name: str, sizes: Mapping[str, int]) -> Tensor:
    """A view of the engine's weight.

    Args:
        name: of the weight in Hugging Face's model.
        sizes: number of rows of each weight there.
    """
    layer, _, kind = name.rpartition(".")
    parent, _, own = layer.rpartition(".")
    for fused, parts in lent.fused.items():
        weight = lent.weights.get(f"{parent}.{fused}.{kind}")
        if own not in parts or weight is None:
            continue
        begins = [0]
        for part in parts:
            begins.append(begins[-1] + sizes.get(f"{parent}.{part}.{kind}", 0))
        if begins[-1] != len(weight):
            raise NotLentError(f"its {parent}.{fused} has {len(weight)} rows, not {begins[-1]}")
        begin = begins[list(parts).index(own)]
        return weight[begin : begin + sizes[name]]
    weight = lent.weights.get(name)
    if weight is None:
        raise NotLentError(f"it has no {name}")
    return weight[: sizes[name]] if weight.ndim else weight  # vLLM pads embedding tables


def _is_same(lent: Tensor, read: Tensor) -> bool:
    """Whether both are equal to the bit; compared in pieces, so that the device never holds a second copy."""
    if lent.dtype != read.dtype or lent.shape != read.shape or not lent.is_contiguous():
        return False
    parts = (part.view(-1).split(COMPARED) for part in (lent, read))
    return all(bool(torch.equal(one, other.to(one.device))) for one, other in zip(*parts, strict=True))
