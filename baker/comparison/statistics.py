"""Means of a group of rows with their uncertainty. Pure functions."""

from collections.abc import Sequence

import msgspec
import numpy as np

from baker.comparison.probe_set import Row, RowKind
from baker.comparison.scores import RowScore

DRAWS, SEED = 10_000, 0
LEVEL = 0.95


class GroupStat(msgspec.Struct, frozen=True):
    """How two versions differ on one target, probe or set of questions."""

    kind: RowKind
    name: str
    rows: int
    questions: int
    """Number of different questions: several answers to one question are no independent evidence."""
    tokens: int
    """Positions at which the versions are compared."""
    kl: float
    """Mean KL(a || b) in nats per token: a lower bound, from each version's likeliest tokens."""
    kl_low: float | None
    """Limits of its interval of 95 %, by a bootstrap over the questions; None for a single question."""
    kl_high: float | None
    agreement: float
    """Share of the positions at which both find the same token likeliest."""


def group_stats(rows: Sequence[Row], scores: Sequence[RowScore]) -> list[GroupStat]:
    """One for each (kind, group), in order of first appearance."""
    groups: dict[tuple[RowKind, str], list[tuple[Row, RowScore]]] = {}
    for row, score in zip(rows, scores, strict=True):
        groups.setdefault((row.kind, row.group), []).append((row, score))
    return [_group_stat(kind, name, pairs) for (kind, name), pairs in groups.items()]


def _group_stat(kind: RowKind, name: str, pairs: Sequence[tuple[Row, RowScore]]) -> GroupStat:
    by_question: dict[str, list[float]] = {}
    for row, score in pairs:
        sums = by_question.setdefault(row.question, [0.0, 0])
        sums[0] += score.kl
        sums[1] += score.tokens
    tokens = sum(score.tokens for _, score in pairs)
    low, high = interval(list(by_question.values()))
    return GroupStat(
        kind=kind,
        name=name,
        rows=len(pairs),
        questions=len(by_question),
        tokens=tokens,
        kl=sum(score.kl for _, score in pairs) / tokens,
        kl_low=low,
        kl_high=high,
        agreement=sum(score.agreed for _, score in pairs) / tokens,
    )


def interval(sums: Sequence[Sequence[float]]) -> tuple[float, float] | tuple[None, None]:
    """Percentile bootstrap of the mean KL per token. Each draw takes as many questions as there are, with replacement.

    The comparison is paired, since each question's KL already sets one version against the other.

    Args: sums: for each question, its sum of KLs and its number of tokens.
    """
    if len(sums) < 2:
        return None, None
    kl, tokens = np.array(sums, np.float64).T
    drawn = np.random.default_rng(SEED).integers(len(sums), size=(DRAWS, len(sums)))
    means = kl[drawn].sum(axis=1) / tokens[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
