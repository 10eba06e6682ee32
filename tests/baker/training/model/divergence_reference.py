"""Divergences and their gradients computed in other ways: by loops over Python floats, and by autograd in float64."""

import math

import torch
from torch import Tensor

from baker.training.model.divergences import FORWARD_KL, Measure


def logits_pair(positions: int, vocabulary: int, seed: int, spread: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    make = lambda: torch.randn(positions, vocabulary, generator=generator, dtype=torch.float64) * spread  # noqa: E731
    return make(), make()


def top_of(teacher: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    top = teacher.double().log_softmax(-1).topk(kept)
    return top.indices, top.values.float()


def by_loops(student: Tensor, teacher: Tensor, ids: Tensor, measure: Measure = FORWARD_KL) -> list[float]:
    """The divergence of each position over kept tokens and the rest, in Python floats."""
    result = []
    for z, t, kept in zip(student.tolist(), teacher.tolist(), ids.tolist(), strict=True):
        p, q = buckets(t, kept, measure.temperature), buckets(z, kept, measure.temperature)
        m = [measure.beta * a + (1 - measure.beta) * b for a, b in zip(p, q, strict=True)]
        if measure.beta in (0.0, 1.0):
            result.append(kl(q, p) if measure.beta else kl(p, q))
        else:
            jsd = measure.beta * kl(p, m) + (1 - measure.beta) * kl(q, m)
            result.append(jsd / (measure.beta * (1 - measure.beta)))
    return result


def buckets(logits: list[float], kept: list[int], temperature: float) -> list[float]:
    masses = [math.exp(value - max(logits)) for value in logits]
    rest = [mass for token, mass in enumerate(masses) if token not in kept]
    parts = [masses[token] for token in kept] + ([math.fsum(rest)] if rest else [])
    tempered = [(part / math.fsum(parts)) ** (1 / temperature) for part in parts]
    return [part / math.fsum(tempered) for part in tempered]


def kl(p: list[float], q: list[float]) -> float:
    return math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def plain_kl(logits: Tensor, ids: Tensor, logprobs: Tensor) -> Tensor:
    """Forward KL in float64, by definition. The rest is a difference, for which float64 is exact enough."""
    q = logits.log_softmax(-1)
    result = (logprobs.exp() * (logprobs - q.gather(-1, ids))).sum(-1)
    if ids.shape[-1] == logits.shape[-1]:
        return result
    mass = 1.0 - logprobs.exp().sum(-1)
    return result + torch.xlogy(mass.clamp(min=0), mass.clamp(min=0)) - mass.clamp(min=0) * log_rest(q, ids)


def log_rest(logprobs: Tensor, ids: Tensor) -> Tensor:
    is_rest = torch.ones_like(logprobs).scatter(-1, ids, 0.0).bool()
    return logprobs.masked_fill(~is_rest, -torch.inf).logsumexp(-1)


def plain_divergence(logits: Tensor, teacher: Tensor, ids: Tensor, measure: Measure) -> Tensor:
    """Any divergence in float64, for autograd."""

    def tempered(values: Tensor) -> Tensor:
        logprobs = values.log_softmax(-1)
        parts = [logprobs.gather(-1, ids)]
        if ids.shape[-1] < values.shape[-1]:
            parts.append(log_rest(logprobs, ids)[:, None])
        return (torch.cat(parts, -1) / measure.temperature).log_softmax(-1)

    p, q, beta = tempered(teacher), tempered(logits), measure.beta
    if beta in (0.0, 1.0):
        return ((q.exp() * (q - p)) if beta else (p.exp() * (p - q))).sum(-1)
    m = (beta * p.exp() + (1 - beta) * q.exp()).log()
    return ((p.exp() * (p - m)) / (1 - beta) + (q.exp() * (q - m)) / beta).sum(-1)
