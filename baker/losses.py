"""Divergences between teacher and student, in nats per token; pure.

N counts positions, D the width of a hidden state. The forward KL is over the teacher's K likeliest tokens and one
bucket for the rest of the vocabulary. Let p be the teacher's mass on a token or on the rest, q the student's, and z
the student's logits. Then

    KL      = sum over K of p_k (log p_k - log q_k) + p_rest (log p_rest - log q_rest)
    dKL/dz  = q_k - p_k for a kept token; softmax(z over the rest) * (q_rest - p_rest) for another

The gradient costs one pass over values that the divergence itself needs, so both are computed at once, in place of
the logits. The student's rest is summed, never taken as 1 - (sum of q_k): that difference is noise where K tokens
hold nearly all of the mass.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20  # of float32 logits at a time: hundreds of positions, yet small beside any model
_LEAST_LOGPROB = -1e4  # stands for -inf, whose product with a mass of 0 is NaN


def forward_kl(student_logits_NV: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor) -> Tensor:
    """KL(teacher || student) of each position over K tokens and one bucket for the rest, in nats.

    Args:
        student_logits_NV: unnormalised, any float type; computed in float32.
        ids_NK: the teacher's K likeliest tokens at each position, without repeats.
        teacher_logprobs_NK: their log-probabilities under all of V, without gradient.
    Returns: float32 (N,), a lower bound of the full KL; zero where the two distributions agree.
    Raises: ValueError if there is no position or K is 0, since a mean over nothing has no value.
    Source: Prompt Baking, arXiv:2409.13697, cut to K tokens.
    """
    _check(student_logits_NV, ids_NK, teacher_logprobs_NK)
    result: Tensor = _ForwardKL.apply(student_logits_NV, ids_NK, teacher_logprobs_NK)
    return result


def head_kl(hidden_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor) -> Tensor:
    """The sum of `forward_kl` over the logits `hidden_ND @ head_VD.T`, without ever holding all of them.

    The head must be frozen: it gets no gradient. Positions are taken in chunks of CHUNK_BYTES of logits.
    Returns: float32 scalar. Raises: ValueError as `forward_kl`, or if the head wants a gradient.
    """
    _check(hidden_ND, ids_NK, teacher_logprobs_NK)
    if head_VD.requires_grad:
        raise ValueError("head_kl gives the head no gradient: freeze it")
    result: Tensor = _HeadKL.apply(hidden_ND, head_VD, ids_NK, teacher_logprobs_NK)
    return result


def full_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor) -> Tensor:
    """KL(teacher || student) of each position over the whole vocabulary, float32 (N,), in nats; for measurements."""
    student = student_logits_NV.float().log_softmax(-1)
    teacher = teacher_logits_NV.float().log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)


def _check(rows: Tensor, ids_NK: Tensor, teacher_logprobs_NK: Tensor) -> None:
    if ids_NK.shape != teacher_logprobs_NK.shape or ids_NK.ndim != 2 or len(rows) != len(ids_NK):
        raise ValueError(
            f"{len(rows)} positions do not fit ids of shape {tuple(ids_NK.shape)} "
            f"and log-probabilities of shape {tuple(teacher_logprobs_NK.shape)}"
        )
    if ids_NK.numel() == 0:
        raise ValueError(f"no teacher distribution: ids have shape {tuple(ids_NK.shape)}")


class _ForwardKL(torch.autograd.Function):  # type: ignore[misc]  # torch's types are not read
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, ids_NK: Tensor, teacher_NK: Tensor) -> Tensor:
        gradient_NV = logits_NV.to(torch.float32, copy=True)
        kl_N = _kl_in_place(gradient_NV, ids_NK, teacher_NK)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient_NV)
            ctx.dtype = logits_NV.dtype
        return kl_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, None, None]:
        (gradient_NV,) = ctx.saved_tensors
        return (gradient_NV * grad_N[:, None]).to(ctx.dtype), None, None


class _HeadKL(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, teacher_NK: Tensor) -> Tensor:
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        gradient_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        rows = max(1, CHUNK_BYTES // (4 * len(head_VD)))
        for at in range(0, len(hidden_ND), rows):
            here = slice(at, at + rows)
            logits_NV = (hidden_ND[here].to(head_VD.dtype) @ head_VD.T).float()
            total += _kl_in_place(logits_NV, ids_NK[here], teacher_NK[here]).sum()
            if gradient_ND is not None:
                gradient_ND[here] = (logits_NV.to(head_VD.dtype) @ head_VD).to(hidden_ND.dtype)
        if gradient_ND is not None:
            ctx.save_for_backward(gradient_ND)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_ND,) = ctx.saved_tensors
        return gradient_ND * grad.to(gradient_ND.dtype), None, None, None


def _kl_in_place(logits_NV: Tensor, ids_NK: Tensor, teacher_NK: Tensor) -> Tensor:
    """The divergence of each position; `logits_NV` (float32) becomes its gradient."""
    teacher_NK = teacher_NK.float().clamp(min=_LEAST_LOGPROB)
    # Rounding can lift the K tokens' mass above 1, and the divergence then below 0.
    teacher_NK = teacher_NK - teacher_NK.logsumexp(-1, keepdim=True).clamp(min=0.0)
    p_NK = teacher_NK.exp()
    kept_NK = logits_NV.gather(-1, ids_NK)
    if ids_NK.shape[-1] == logits_NV.shape[-1]:  # all tokens kept: there is no rest
        q_NK = kept_NK.log_softmax(-1)
        logits_NV.scatter_(-1, ids_NK, q_NK.exp() - p_NK)
        return (p_NK * (teacher_NK - q_NK)).sum(-1)

    p_rest_N = (-torch.expm1(teacher_NK.logsumexp(-1))).clamp(min=0.0)
    logits_NV.scatter_(-1, ids_NK, -torch.inf)
    greatest_N1 = logits_NV.amax(-1, keepdim=True)
    rest_NV = logits_NV.sub_(greatest_N1).exp_()
    mass_N1 = rest_NV.sum(-1, keepdim=True)
    log_rest_N = (mass_N1.log() + greatest_N1).squeeze(-1)
    log_all_N = torch.logaddexp(kept_NK.logsumexp(-1), log_rest_N)
    log_q_NK = kept_NK - log_all_N[:, None]
    log_q_rest_N = log_rest_N - log_all_N
    rest_NV.mul_((log_q_rest_N.exp() - p_rest_N)[:, None] / mass_N1)
    rest_NV.scatter_(-1, ids_NK, log_q_NK.exp() - p_NK)
    return (p_NK * (teacher_NK - log_q_NK)).sum(-1) + torch.xlogy(p_rest_N, p_rest_N) - p_rest_N * log_q_rest_N
