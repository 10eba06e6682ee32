"""The numbers of a merge's proof, from what each version predicts along held-out rows. Pure functions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baker.merge_report import Conflict, ConflictQuestion, Retention
from baker.merging.rows import Row
from baker.merging.scoring import RowScore
from baker.status import NEGLIGIBLE_KL

DRAWS, SEED, LEVEL = 10_000, 0, 0.95
WORST_QUESTIONS = 5


def retention(
    base: Sequence[RowScore],
    own: Sequence[RowScore],
    merged: Sequence[RowScore],
    *,
    is_removed: bool = False,
    yields: bool = False,
) -> Retention:
    """What is left of a version, on its own held-out rows.

    Args:
        base, own, merged: scores of the merge base, the version and the merge, row by row. At least one row.
        is_removed, yields: see `Retention`.
    """
    questions = list(dict.fromkeys(score.stimulus for score in own))
    place = {stimulus: index for index, stimulus in enumerate(questions)}
    sums = np.zeros((len(questions), 3))
    for scores in zip(base, own, merged, strict=True):
        sums[place[scores[0].stimulus]] += [score.kl for score in scores]
    tokens = sum(score.tokens for score in own)
    gain = float(sums[:, 0].sum() - sums[:, 1].sum())
    value = low = high = None
    if gain / tokens >= NEGLIGIBLE_KL:
        value = float(sums[:, 0].sum() - sums[:, 2].sum()) / gain
        if len(questions) > 1:
            low, high = _interval(sums)
    return Retention(
        retention=value,
        low=low,
        high=high,
        kl_base=float(sums[:, 0].sum()) / tokens,
        kl_own=float(sums[:, 1].sum()) / tokens,
        kl_merged=float(sums[:, 2].sum()) / tokens,
        agreement_own=sum(score.agreed for score in own) / tokens,
        agreement=sum(score.agreed for score in merged) / tokens,
        rows=len(own),
        questions=len(questions),
        is_removed=is_removed,
        yields=yields,
    )


def _interval(sums: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile bootstrap of the retention over the questions, paired: a draw takes a question's three sums together.

    Args: sums: of KL, for each question: of the base, of the version, of the merge.
    """
    drawn = np.random.default_rng(SEED).integers(len(sums), size=(DRAWS, len(sums)))
    base, own, merged = sums[drawn].sum(axis=1).T
    gains = np.where(base - own > 0, base - own, np.nan)
    values = (base - merged) / gains
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


class SideScores(NamedTuple):
    """Predictions along the held-out rows of one version."""

    label: str
    rows: Sequence[Row]
    base: Sequence[RowScore]
    sides: Mapping[str, Sequence[RowScore]]
    """Label of each version -> its scores on these rows."""


class RowConflict(NamedTuple):
    conflicts: int
    moved: int


def row_conflict(base: RowScore, sides: Sequence[RowScore]) -> RowConflict:
    """Tokens of a row that versions moved from the base's likeliest token, and those that two moved apart.

    The three-way rule of merges: where only one changed, or both changed alike, there is no conflict.
    """
    likeliest = np.array([side.likeliest for side in sides])
    is_moved = likeliest != np.array(base.likeliest)
    movers = is_moved.sum(axis=0)
    highest = np.where(is_moved, likeliest, np.iinfo(np.int32).min).max(axis=0)
    lowest = np.where(is_moved, likeliest, np.iinfo(np.int32).max).min(axis=0)
    in_conflict = (movers > 1) & (highest != lowest)
    return RowConflict(int(in_conflict.sum()), int((movers > 0).sum()))


class Worst(NamedTuple):
    found: RowConflict
    side: SideScores
    row: int


def conflict(scored: Sequence[SideScores], *, has_equal_contexts: bool) -> tuple[Conflict, list[Worst]]:
    """Returns: the conflict without questions, and the rows with the most conflicts, for `questions_of`."""
    every = [
        Worst(row_conflict(base, [scores[index] for scores in side.sides.values()]), side, index)
        for side in scored
        for index, base in enumerate(side.base)
    ]
    conflicts, moved = sum(each.found.conflicts for each in every), sum(each.found.moved for each in every)
    worst: dict[str, Worst] = {}
    for each in sorted(every, key=lambda each: -each.found.conflicts):
        if each.found.conflicts:
            worst.setdefault(each.side.rows[each.row].stimulus, each)
    found = Conflict(conflicts / moved if moved else 0.0, conflicts, moved, has_equal_contexts, [])
    return found, list(worst.values())[:WORST_QUESTIONS]


def conflict_question(worst: Worst, answers: Mapping[str, str]) -> ConflictQuestion:
    return ConflictQuestion(
        worst.side.rows[worst.row].stimulus, worst.side.label, worst.found.conflicts, worst.found.moved, dict(answers)
    )


def drift(scores: Sequence[RowScore]) -> float:
    """Mean KL(base || version) in nats per token on rows whose teacher is the base model."""
    return sum(score.kl for score in scores) / sum(score.tokens for score in scores)
