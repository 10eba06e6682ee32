"""Causal attention over the segments of a packed line (`packing.py`): the kernels, and transformers' interface to them.

On a GPU, flash attention over sequences of different lengths. On a CPU, plain products, a block of queries at a time:
torch's own kernel takes 2.8 times as long backwards in bfloat16 (12 ms against 4 for two rows of 130 tokens and 9
heads, one core) and rounds worse.

H counts the heads of queries, G the heads of keys and values (H is a multiple), D the width of a head.
"""

import inspect
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from baker.training.data.packing import Packing, Range, Segment

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None

PACKED = "bread_packed"
"""Name of this attention in transformers."""
_GROUPED = {"enable_gqa"}.intersection(inspect.signature(varlen_attn).parameters if varlen_attn else ())
"""Argument that tells the flash kernel that heads of queries share keys; from torch 2.11 it detects that."""
BLOCK = 256
"""Number of queries at a time."""
KEPT_KEYS = 1024
"""Largest number of keys up to which attention weights are kept for the backward pass (2 bytes per head, query and
key). Beyond, they would outweigh all other activations, and are computed again."""


class Lengths(NamedTuple):
    """A packing in the form that flash attention takes, computed once for all layers. Offsets are int32, from 0 to the
    end."""

    queries: Tensor
    """Offsets of the segments' queries in the line."""
    keys: Tensor
    """Offsets of the segments' keys."""
    most_queries: int
    """Largest number of queries of a segment."""
    most_keys: int
    """Largest number of keys of a segment."""
    key_places: Tensor | None
    """int64 index in the line of each key; None: each segment's keys are its own tokens."""


def packing_argument(packing: Packing, device: torch.device, dtype: torch.dtype) -> Packing | Lengths:
    """The argument `packing` for a model that computes in `dtype` on `device`."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16) or varlen_attn is None:
        return packing
    ranges = [_ranges(segment, segment.end) for segment in packing.segments]
    queries = [segment.end - segment.begin for segment in packing.segments]
    keys = [sum(end - begin for begin, end in of_segment) for of_segment in ranges]
    key_places = None
    if any(segment.before for segment in packing.segments):
        places = torch.cat([torch.arange(begin, end) for of_segment in ranges for begin, end in of_segment])
        key_places = places.to(device, non_blocking=True)
    return Lengths(_offsets(queries, device), _offsets(keys, device), max(queries), max(keys), key_places)


def packed_attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | Lengths | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' interface to `packed_attention`. Without a `packing` it computes transformers' sdpa.

    Raises: NotImplementedError if the model's attention has more than this one: windows, caps, sinks, biases.
    """
    if packing is None:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    unsupported = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if unsupported or dropout or attention_mask is not None or len(query) != 1:
        raise NotImplementedError(f"packed attention lacks {', '.join(unsupported) or 'masks and dropout'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return packed_attention(query[0], key[0], value[0], packing, scale)[None], None


_UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias", "head_mask")
AttentionInterface.register(PACKED, packed_attention_forward)


def packed_attention(
    query_HTD: Tensor, key_GTD: Tensor, value_GTD: Tensor, packing: Packing | Lengths, scale: float
) -> Tensor:
    """The attention's output, (T, H, D)."""
    if isinstance(packing, Lengths):
        return _flash(query_HTD, key_GTD, value_GTD, packing, scale)
    result: Tensor = _Blocks.apply(query_HTD, key_GTD, value_GTD, packing.segments, scale)
    return result


def _flash(query_HTD: Tensor, key_GTD: Tensor, value_GTD: Tensor, lengths: Lengths, scale: float) -> Tensor:
    """The kernel aligns the causal mask to the last key, so shared keys simply precede a segment's own."""
    query, key, value = (x.transpose(0, 1) for x in (query_HTD, key_GTD, value_GTD))
    if lengths.key_places is not None:
        key, value = key[lengths.key_places], value[lengths.key_places]
    result: Tensor = varlen_attn(
        query,
        key,
        value,
        lengths.queries,
        lengths.keys,
        lengths.most_queries,
        lengths.most_keys,
        scale=scale,
        window_size=(-1, 0),
        **dict.fromkeys(_GROUPED, query.shape[1] != key.shape[1]),
    )
    return result


def _offsets(lengths: list[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(device, non_blocking=True)


def _ranges(segment: Segment, end: int) -> list[Range]:
    """The keys that the last query before `end` attends to."""
    return [*segment.before, (segment.begin, end)]


class _Blocks(torch.autograd.Function):  # type: ignore[misc]  # torch's types are not read
    """Each block of a segment's queries attends to all keys up to the block's end. Heads of queries that share keys
    (H / G) are rows of one product; the weights are normalised in float32, and multiplied in the values' type."""

    @staticmethod
    def forward(
        ctx: Any, query_HTD: Tensor, key_GTD: Tensor, value_GTD: Tensor, segments: tuple[Segment, ...], scale: float
    ) -> Tensor:
        heads, line, width = query_HTD.shape
        groups = len(key_GTD)
        query = query_HTD.view(groups, heads // groups, line, width)
        output = query_HTD.new_empty(line, groups, heads // groups, width)
        kept: list[Tensor] = []
        for segment, begin, end in _blocks(segments):
            ranges = _ranges(segment, end)
            weights = _weights(query[:, :, begin:end], _take(key_GTD, ranges), scale)
            result = torch.bmm(weights, _take(value_GTD, ranges))
            output[begin:end] = result.view(groups, -1, end - begin, width).permute(2, 0, 1, 3)
            if ctx.needs_input_grad[0] and weights.shape[-1] <= KEPT_KEYS:
                kept.append(weights)
        ctx.save_for_backward(query_HTD, key_GTD, value_GTD, *kept)
        ctx.segments, ctx.scale = segments, scale
        return output.view(line, heads, width)

    @staticmethod
    def backward(ctx: Any, grad_THD: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query_HTD, key_GTD, value_GTD, *kept = ctx.saved_tensors
        heads, line, width = query_HTD.shape
        groups = len(key_GTD)
        query = query_HTD.view(groups, heads // groups, line, width)
        grad = grad_THD.reshape(line, groups, heads // groups, width).permute(1, 2, 0, 3)
        # In the projections' memory layout, so that no copy follows.
        grad_query = query_HTD.new_empty(line, groups, heads // groups, width)
        grad_key, grad_value = (
            query_HTD.new_zeros(line, groups, width, dtype=torch.float32).transpose(0, 1) for _ in range(2)
        )
        kept_weights = iter(kept)
        for segment, begin, end in _blocks(ctx.segments):
            ranges = _ranges(segment, end)
            queries, keys, values = query[:, :, begin:end], _take(key_GTD, ranges), _take(value_GTD, ranges)
            weights = next(kept_weights) if keys.shape[1] <= KEPT_KEYS else _weights(queries, keys, ctx.scale)
            grads = grad[:, :, begin:end].reshape(groups, -1, width)
            _add(grad_value, ranges, torch.bmm(weights.mT, grads))
            grad_scores = torch._softmax_backward_data(torch.bmm(grads, values.mT), weights, -1, weights.dtype)
            result = torch.bmm(grad_scores, keys).mul_(ctx.scale).view(groups, -1, end - begin, width)
            grad_query[begin:end] = result.permute(2, 0, 1, 3)
            queries = queries.reshape(groups, -1, width) * ctx.scale
            _add(grad_key, ranges, torch.bmm(grad_scores.mT, queries))
        grad_query_HTD = grad_query.view(line, heads, width).transpose(0, 1)
        return grad_query_HTD, grad_key.to(key_GTD.dtype), grad_value.to(value_GTD.dtype), None, None


def _blocks(segments: tuple[Segment, ...]) -> list[tuple[Segment, int, int]]:
    return [
        (segment, begin, min(begin + BLOCK, segment.end))
        for segment in segments
        for begin in range(segment.begin, segment.end, BLOCK)
    ]


def _weights(query: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Attention weights (G, H / G * n, s) of n queries (G, H / G, n, D) over s keys, the last n of which are the
    queries' own positions."""
    groups, _, own, width = query.shape
    scores = torch.bmm((query * scale).reshape(groups, -1, width), keys.mT)
    future = torch.ones(own, own, dtype=torch.bool, device=query.device).triu_(1)
    scores.view(groups, -1, own, keys.shape[1])[..., keys.shape[1] - own :].masked_fill_(future, -torch.inf)
    return scores.softmax(-1)


def _take(x: Tensor, ranges: list[Range]) -> Tensor:
    parts = [x[:, begin:end] for begin, end in ranges]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _add(total: Tensor, ranges: list[Range], part: Tensor) -> None:
    at = 0
    for begin, end in ranges:
        total[:, begin:end] += part[:, at : at + end - begin]
        at += end - begin
