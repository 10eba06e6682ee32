"""Divergences between teacher and student, in nats per token; pure.

N counts positions, D the width of a hidden state. All are taken over J buckets: the teacher's K likeliest tokens and
one for the rest of the vocabulary (none if K is all of it), or every token where the teacher's logits are given
(`full_...`). Let p be the teacher's mass on a bucket, q the student's, and z the student's logits. The forward KL, and
the gradient by the logits of any divergence d of p and q:

    KL      = sum over J of p_j (log p_j - log q_j)
    dd/dz   = g_k for a kept token; softmax(z over the rest) * g_rest for another,

where g is the gradient by the unnormalised log q: q - p for the forward KL. It costs one pass over values that the
divergence itself needs, so both are computed at once, in place of the logits. The student's rest is summed, never
computed as 1 - (sum of q_k): that difference is rounding noise where K tokens hold nearly all of the mass.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from baker.training.model.divergences import (
    FORWARD_KL,
    Comparison,
    Measure,
    compare_in_place,
    divergence_in_place,
    full_divergence_in_place,
)

CHUNK_BYTES = 64 << 20
"""Size of the logits that are computed at a time, counted in float32: hundreds of positions, yet small beside any
model."""
GPU_CHUNK_BYTES = 256 << 20
"""`CHUNK_BYTES` on a GPU, which takes longer to read the head than to multiply with it below some hundred positions."""
TILE_BYTES = 4 << 20
"""Size of the part of a chunk that a CPU works on at a time in float32: data that stays in its caches takes a third of
the time (144 positions of SmolLM2 over the whole vocabulary, the products included: 53 ms against 140). GPUs take a
fourth of a chunk."""
_LEAST_SQUARE = 1e-6  # lower limit of a divisor

_TileLoss = Callable[[Tensor, slice], Tensor]
"""Takes the float32 logits of a tile, and its positions within the chunk. Returns the divergence of each position, and
overwrites the logits with its gradient."""
_ChunkLoss = Callable[[slice], _TileLoss]
"""Takes the positions of a chunk. Returns the loss of its tiles."""


def forward_kl(student_logits_NV: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor) -> Tensor:
    """KL(teacher || student) of each position over K tokens and one bucket for the rest, in nats.

    Args:
        student_logits_NV: unnormalised, any float type; computed in float32.
        ids_NK: the teacher's K likeliest tokens at each position, without repeats.
        teacher_logprobs_NK: their log-probabilities under all of V, without gradient.
    Returns: float32 (N,), a lower bound of the full KL; zero where the two distributions agree.
    Raises: ValueError if there is no position or K is 0, since a mean over nothing is undefined.
    Source: Prompt Baking, arXiv:2409.13697, cut to K tokens.
    """
    return divergence(student_logits_NV, ids_NK, teacher_logprobs_NK, FORWARD_KL)


def divergence(student_logits_NV: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor, measure: Measure) -> Tensor:
    """The divergence of each position, float32 (N,): at least zero except for rounding, zero where the distributions
    agree. Args and raises: as `forward_kl`."""
    _check(student_logits_NV, ids_NK, teacher_logprobs_NK)

    result: Tensor = _Divergence.apply(student_logits_NV, _top_k_loss(ids_NK, teacher_logprobs_NK, measure))
    return result


def head_divergence(
    hidden_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor, measure: Measure = FORWARD_KL
) -> Tensor:
    """The sum of `divergence` over the logits `hidden_ND @ head_VD.T`, which never exist all at once.

    The head must be frozen: it gets no gradient. Logits are computed in chunks of CHUNK_BYTES.
    Returns: float32 scalar. Raises: ValueError as `forward_kl`, or if the head requires a gradient.
    """
    _check(hidden_ND, ids_NK, teacher_logprobs_NK)
    _check_frozen(head_VD)

    def chunk_loss(chunk: slice) -> _TileLoss:
        return _top_k_loss(ids_NK[chunk], teacher_logprobs_NK[chunk], measure)

    result: Tensor = _HeadDivergence.apply(hidden_ND, head_VD, chunk_loss)
    return result


def full_divergence(student_logits_NV: Tensor, teacher_logits_NV: Tensor, measure: Measure = FORWARD_KL) -> Tensor:
    """`divergence` over the whole vocabulary, from the teacher's logits, which get no gradient: float32 (N,).

    Raises: ValueError if there is no position, or the shapes differ.
    """
    _check_same_shape(student_logits_NV, teacher_logits_NV)

    result: Tensor = _Divergence.apply(student_logits_NV, _full_loss(teacher_logits_NV, measure))
    return result


def full_head_divergence(
    hidden_ND: Tensor, teacher_hidden_ND: Tensor, head_VD: Tensor, measure: Measure = FORWARD_KL
) -> Tensor:
    """The sum of `full_divergence` over the logits that a frozen head computes from both sides' hidden states: float32
    scalar. Logits are computed a chunk at a time, as in `head_divergence`.

    Raises: ValueError as `full_divergence`, or if the head requires a gradient.
    """
    _check_same_shape(hidden_ND, teacher_hidden_ND)
    _check_frozen(head_VD)

    def chunk_loss(chunk: slice) -> _TileLoss:
        return _full_loss(_logits(teacher_hidden_ND[chunk], head_VD), measure)

    result: Tensor = _HeadDivergence.apply(hidden_ND, head_VD, chunk_loss)
    return result


def compare(student_logits_NV: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor) -> Comparison:
    """Forward KL and agreement over all positions, for an evaluation. Args and raises: as `forward_kl`."""
    _check(student_logits_NV, ids_NK, teacher_logprobs_NK)
    return compare_in_place(student_logits_NV.to(torch.float32, copy=True), ids_NK, teacher_logprobs_NK)


def head_compare(hidden_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor) -> Comparison:
    """`compare` over the logits `hidden_ND @ head_VD.T`, a chunk at a time as in `head_divergence`."""
    _check(hidden_ND, ids_NK, teacher_logprobs_NK)
    nats = hidden_ND.new_zeros((), dtype=torch.float32)
    agreed = hidden_ND.new_zeros((), dtype=torch.int64)
    with torch.no_grad():
        for chunk in _chunks(len(hidden_ND), _rows(len(head_VD), _chunk_bytes(head_VD))):
            logits_NV = _logits(hidden_ND[chunk], head_VD)
            chunk_ids_NK, chunk_NK = ids_NK[chunk], teacher_logprobs_NK[chunk]
            for tile in _tiles(logits_NV):
                comparison = compare_in_place(logits_NV[tile].float(), chunk_ids_NK[tile], chunk_NK[tile])
                nats += comparison.nats
                agreed += comparison.agreed
    return Comparison(nats, agreed)


def full_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor) -> Tensor:
    """KL(teacher || student) of each position over the whole vocabulary, float32 (N,), in nats; for measurements."""
    student = student_logits_NV.float().log_softmax(-1)
    teacher = teacher_logits_NV.float().log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)


def relative_distance(states_NLD: Tensor, teacher_NLD: Tensor) -> Tensor:
    """The sum over N of the mean over L of |states - teacher|² / |teacher|²: float32 scalar, zero where they agree."""
    teacher_NLD = teacher_NLD.float()
    distance_NL = (states_NLD.float() - teacher_NLD).square().sum(-1)
    return (distance_NL / teacher_NLD.square().sum(-1).clamp(min=_LEAST_SQUARE)).mean(-1).sum()


def _check(rows: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor) -> None:
    if ids_NK.shape != teacher_logprobs_NK.shape or ids_NK.ndim != 2 or len(rows) != len(ids_NK):
        raise ValueError(
            f"{len(rows)} positions do not fit ids of shape {tuple(ids_NK.shape)} "
            f"and log-probabilities of shape {tuple(teacher_logprobs_NK.shape)}"
        )
    if ids_NK.numel() == 0:
        raise ValueError(f"no teacher distribution: ids have shape {tuple(ids_NK.shape)}")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape or student.ndim != 2 or student.numel() == 0:
        raise ValueError(f"a teacher of shape {tuple(teacher.shape)} does not fit a student of {tuple(student.shape)}")


def _check_frozen(head_VD: Tensor) -> None:
    if head_VD.requires_grad:
        raise ValueError("the head gets no gradient from this divergence: freeze it")


def _chunk_bytes(head_VD: Tensor) -> int:
    return GPU_CHUNK_BYTES if head_VD.is_cuda else CHUNK_BYTES


def _rows(vocabulary: int, size: int) -> int:
    """Number of positions whose float32 logits take `size` bytes; at least 1."""
    return max(1, size // (4 * vocabulary))


def _chunks(positions: int, rows: int) -> Iterator[slice]:
    return (slice(at, at + rows) for at in range(0, positions, rows))


def _tiles(logits_NV: Tensor) -> Iterator[slice]:
    size = GPU_CHUNK_BYTES // 4 if logits_NV.is_cuda else TILE_BYTES
    return _chunks(len(logits_NV), _rows(logits_NV.shape[-1], size))


def _logits(hidden_ND: Tensor, head_VD: Tensor) -> Tensor:
    """The logits, in the head's type."""
    return hidden_ND.to(head_VD.dtype) @ head_VD.T


class _Divergence(torch.autograd.Function):  # type: ignore[misc]  # torch's types are not read
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, tile_loss: _TileLoss) -> Tensor:
        gradient_NV = logits_NV.to(torch.float32, copy=True)
        divergence_N = torch.cat([tile_loss(gradient_NV[tile], tile) for tile in _tiles(gradient_NV)])
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient_NV)
            ctx.dtype = logits_NV.dtype
        return divergence_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, None]:
        (gradient_NV,) = ctx.saved_tensors
        return (gradient_NV * grad_N[:, None]).to(ctx.dtype), None


class _HeadDivergence(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, chunk_loss: _ChunkLoss) -> Tensor:
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        gradient_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        for chunk in _chunks(len(hidden_ND), _rows(len(head_VD), _chunk_bytes(head_VD))):
            logits_NV, tile_loss = _logits(hidden_ND[chunk], head_VD), chunk_loss(chunk)
            for tile in _tiles(logits_NV):
                tile_NV = logits_NV[tile].float()
                total += tile_loss(tile_NV, tile).sum()
                logits_NV[tile] = tile_NV
            if gradient_ND is not None:
                gradient_ND[chunk] = (logits_NV @ head_VD).to(hidden_ND.dtype)
        if gradient_ND is not None:
            ctx.save_for_backward(gradient_ND)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient_ND,) = ctx.saved_tensors
        return gradient_ND * grad.to(gradient_ND.dtype), None, None


def _top_k_loss(ids_NK: Tensor, teacher_NK: Tensor, measure: Measure) -> _TileLoss:
    return lambda logits_NV, tile: divergence_in_place(logits_NV, ids_NK[tile], teacher_NK[tile], measure)


def _full_loss(teacher_logits_NV: Tensor, measure: Measure) -> _TileLoss:
    return lambda logits_NV, tile: full_divergence_in_place(logits_NV, teacher_logits_NV[tile].float(), measure)
