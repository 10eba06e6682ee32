"""The divergence between teacher and student over one tile of logits, and its gradient."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_LEAST_LOGPROB = -1e4  # in place of -inf, whose product with a mass of 0 is NaN

_LEAST_REST = math.log(1e-6)
"""Lower limit of either side's rest, except for the forward KL. The teacher's rest is 1 minus a float32 sum; anything
smaller is rounding, which a reverse divergence or a high temperature would amplify."""


class Measure(NamedTuple):
    """A divergence between teacher p and student q."""

    beta: float = 0.0
    """0 is the forward KL(p || q), 1 the reverse KL(q || p). Between them: the generalised Jensen-Shannon divergence
    with the mixture m = beta p + (1 - beta) q, divided by beta (1 - beta):

        KL(p || m) / (1 - beta) + KL(q || m) / beta

    Undivided (arXiv:2306.13649) it vanishes towards both ends. Divided, it approaches the two KLs, and every beta has
    the same curvature where p is near q: a learning rate that suits one suits all."""
    temperature: float = 1.0
    """Above 0. p and q become p ** (1 / temperature), normalised over the J buckets. The result is not multiplied by
    temperature ** 2, as is usual to match gradients: AdamW's steps do not depend on the scale of the loss."""


FORWARD_KL = Measure()


class Comparison(NamedTuple):
    """Teacher and student at N positions, without gradient."""

    nats: Tensor
    """Summed forward KL: float32 scalar."""
    agreed: Tensor
    """Number of positions where both have the same likeliest token: int64 scalar."""


def compare_in_place(logits_NV: Tensor, ids_NK: Tensor, teacher_NK: Tensor) -> Comparison:
    """Compares teacher and student at N positions. Overwrites `logits_NV`."""
    likeliest_N1 = ids_NK.gather(-1, teacher_NK.argmax(-1, keepdim=True))
    agreed = (logits_NV.argmax(-1, keepdim=True) == likeliest_N1).sum()
    return Comparison(divergence_in_place(logits_NV, ids_NK, teacher_NK, FORWARD_KL).sum(), agreed)


def divergence_in_place(logits_NV: Tensor, ids_NK: Tensor, teacher_NK: Tensor, measure: Measure) -> Tensor:
    """The divergence of each position, float32 (N,). Overwrites `logits_NV` (float32) with its gradient."""
    teacher_NK = teacher_NK.float().clamp(min=_LEAST_LOGPROB)
    # Rounding can lift the K tokens' mass above 1, and the divergence then below 0.
    teacher_NK = teacher_NK - teacher_NK.logsumexp(-1, keepdim=True).clamp(min=0.0)
    kept_NK = logits_NV.gather(-1, ids_NK)
    if ids_NK.shape[-1] == logits_NV.shape[-1]:  # all tokens are kept: there is no rest
        divergence_N, gradient_NK = _compare(teacher_NK, kept_NK.log_softmax(-1), measure)
        logits_NV.scatter_(-1, ids_NK, gradient_NK)
        return divergence_N

    least = _LEAST_LOGPROB if measure == FORWARD_KL else _LEAST_REST
    p_rest_N1 = (-torch.expm1(teacher_NK.logsumexp(-1, keepdim=True))).clamp(min=0.0)
    logits_NV.scatter_(-1, ids_NK, -torch.inf)
    greatest_N1 = logits_NV.amax(-1, keepdim=True)
    rest_NV = logits_NV.sub_(greatest_N1).exp_()
    mass_N1 = rest_NV.sum(-1, keepdim=True)
    log_rest_N1 = mass_N1.log() + greatest_N1
    log_p_NJ = torch.cat([teacher_NK, p_rest_N1.log().clamp(min=least)], -1)
    log_q_NJ = torch.cat([kept_NK, log_rest_N1], -1).log_softmax(-1)
    log_q_NJ[:, -1].clamp_(min=least)
    divergence_N, gradient_NJ = _compare(log_p_NJ, log_q_NJ, measure)
    rest_NV.mul_(gradient_NJ[:, -1:] / mass_N1)
    rest_NV.scatter_(-1, ids_NK, gradient_NJ[:, :-1])
    return divergence_N


def full_divergence_in_place(logits_NV: Tensor, teacher_logits_NV: Tensor, measure: Measure) -> Tensor:
    """`divergence_in_place` where every token is a bucket."""
    log_p_NV, log_q_NV = teacher_logits_NV.log_softmax(-1), logits_NV.log_softmax(-1)
    if measure != FORWARD_KL:
        divergence_N, gradient_NV = _compare(log_p_NV, log_q_NV, measure)
        logits_NV.copy_(gradient_NV)
        return divergence_N
    p_NV = log_p_NV.exp()  # `_compare` in place
    torch.exp(log_q_NV, out=logits_NV).sub_(p_NV)
    return log_p_NV.sub_(log_q_NV).mul_(p_NV).sum(-1)


def _compare(log_p_NJ: Tensor, log_q_NJ: Tensor, measure: Measure) -> tuple[Tensor, Tensor]:
    """The divergence of each position (N,), and its gradient by the unnormalised log q (N, J)."""
    if measure == FORWARD_KL:
        p_NJ = log_p_NJ.exp()
        return (p_NJ * (log_p_NJ - log_q_NJ)).sum(-1), log_q_NJ.exp() - p_NJ
    # A beta near 0 or 1 divides rounding errors by nearly 0: hence float64, a tile at a time.
    log_p_NJ = (log_p_NJ.double() / measure.temperature).log_softmax(-1)
    log_q_NJ = (log_q_NJ.double() / measure.temperature).log_softmax(-1)
    divergence_N, gradient_NJ = _compare_by_beta(log_p_NJ, log_q_NJ, measure.beta)
    return divergence_N.float(), (gradient_NJ / measure.temperature).float()


def _compare_by_beta(log_p_NJ: Tensor, log_q_NJ: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    p_NJ, q_NJ = log_p_NJ.exp(), log_q_NJ.exp()
    if beta == 0.0:
        return (p_NJ * (log_p_NJ - log_q_NJ)).sum(-1), q_NJ - p_NJ
    if beta == 1.0:
        log_m_NJ, forward_N = log_p_NJ, 0.0
    else:
        log_m_NJ = torch.logaddexp(log_p_NJ + math.log(beta), log_q_NJ + math.log1p(-beta))
        forward_N = (p_NJ * (log_p_NJ - log_m_NJ)).sum(-1) / (1.0 - beta)
    # This term is its own derivative by log q_j: the terms by way of m cancel between the two KLs.
    reverse_NJ = q_NJ * (log_q_NJ - log_m_NJ) / beta
    reverse_N = reverse_NJ.sum(-1)
    return forward_N + reverse_N, reverse_NJ - q_NJ * reverse_N[:, None]
