"""A base model whose weights are the engine's own: on one GPU, a training beside the engine needs no second copy.

The engine hands out handles of its memory (`gateway/engine/lending.py`). The model is read from its files as always,
into main memory; then each of its weights is replaced by a view of the engine's, if both are the same to the bit.
Nothing ever writes to them: the base is frozen, and adapters are weights of their own.
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
"""Numbers at a time."""


class Lent(NamedTuple):
    weights: Mapping[str, Tensor]
    """By the engine's names."""
    fused: Mapping[str, Sequence[str]]
    """The engine's name of a layer, and whose rows it holds below each other: `qkv_proj` those of q, k and v."""


def open_lent(handles: Path) -> Lent:
    """The engine's weights, for as long as the engine lives.

    Args: handles: a file that the service wrote for this process, to be opened once: torch counts who does. It is
        unpickled: no other file will do.
    Raises: NotLentError.
    """
    try:
        return Lent(*pickle.loads(handles.read_bytes()))
    except Exception as error:  # of the file, of the driver, of an engine that is gone
        raise NotLentError(f"its memory can't be opened: {' '.join(str(error).split())}") from error


def from_engine(lent: Lent, folder: Path, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """As `student.from_files`, with the engine's weights.

    Raises: StageError as `from_files`; NotLentError saying why they are of no use here.
    """
    model = from_files(folder, dtype, attention)
    sizes = {name: weight.shape[0] for name, weight in model.named_parameters() if weight.ndim}
    found = {name: _find(lent, name, sizes) for name, _ in model.named_parameters()}
    for name, weight in model.named_parameters():
        if not _is_same(found[name], weight.data):
            raise NotLentError(f"its {name} is not that of {folder}, computed in {dtype}")
    for name, weight in model.named_parameters():
        weight.data = found[name]
    return model


def _find(lent: Lent, name: str, sizes: Mapping[str, int]) -> Tensor:
    """The engine's weight of that name in Hugging Face's model. Args: sizes: rows of each weight there."""
    layer, _, kind = name.rpartition(".")
    parent, _, own = layer.rpartition(".")
    for whole, parts in lent.fused.items():
        weight = lent.weights.get(f"{parent}.{whole}.{kind}")
        if own not in parts or weight is None:
            continue
        begins = [0]
        for part in parts:
            begins.append(begins[-1] + sizes.get(f"{parent}.{part}.{kind}", 0))
        if begins[-1] != len(weight):
            raise NotLentError(f"its {parent}.{whole} has {len(weight)} rows, not {begins[-1]}")
        begin = begins[list(parts).index(own)]
        return weight[begin : begin + sizes[name]]
    weight = lent.weights.get(name)
    if weight is None:
        raise NotLentError(f"it has no {name}")
    return weight[: sizes[name]] if weight.ndim else weight  # vLLM pads tables of tokens


def _is_same(lent: Tensor, read: Tensor) -> bool:
    """To the bit, some rows at a time, so that the device never holds a second copy."""
    if lent.dtype != read.dtype or lent.shape != read.shape or not lent.is_contiguous():
        return False
    parts = (part.view(-1).split(COMPARED) for part in (lent, read))
    return all(bool(torch.equal(one, other.to(one.device))) for one, other in zip(*parts, strict=True))
