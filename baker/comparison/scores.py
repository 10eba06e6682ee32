"""What both versions predict along the same answers: their KL, their agreement, and the tokens that changed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from baker.comparison.probe_set import Row
from baker.comparison.scorer import Scorer
from baker.comparison.versions import Version
from baker.divergence import position_kls
from baker.errors import InvalidInputError
from baker.types import Checkpoint, Distribution

Result = TypeVar("Result")

MOST_TOKENS = 200
"""Tokens that became likelier, and tokens that became less likely, to keep of one set of rows."""

Step = Callable[[], None]
"""Called after each request to the engine."""


class RowScore(msgspec.Struct, frozen=True):
    key: str
    """See `Row.key`."""
    kl: float
    """Sum of KL(a || b) over the answer's tokens, in nats."""
    agreed: int
    """Number of positions with the same likeliest token."""
    tokens: int


class Scores(msgspec.Struct, frozen=True):
    rows: list[RowScore]
    """In the order of the rows."""
    changes: dict[str, float]
    """Id of a token -> how much more often b expects it over all positions: a sum of probabilities."""


def requests_for(rows: Sequence[Row], a: Version, b: Version) -> int:
    """Number of requests to the engine that `score` makes."""
    unanswered = sum(row.response_ids is None for row in rows)
    return len(rows) * (1 if a.id == b.id else 2) + unanswered


async def score(rows: Sequence[Row], a: Version, b: Version, scorer: Scorer, step: Step) -> Scores:
    """Compare the versions on each row. Each version takes its turn on all rows, so that an engine with one place for
    adapters changes them once.

    Raises: InvalidInputError naming the question that does not fit; AdapterError; EngineError.
    """
    answered = [await _answered(row, a.checkpoint, scorer, step) for row in rows]
    of_a = [await _distribution(row, a.checkpoint, scorer, step) for row in answered]
    of_b = of_a if a.id == b.id else [await _distribution(row, b.checkpoint, scorer, step) for row in answered]
    changes: dict[int, float] = {}
    scores = []
    for row, first, second in zip(rows, of_a, of_b, strict=True):
        # Milliseconds a row: on the event loop they would hold up streams.
        scores.append(await asyncio.to_thread(_row_score, row, first, second))
        await asyncio.to_thread(add_changes, changes, first, second)
    return Scores(scores, _largest(changes))


async def _answered(row: Row, model: Checkpoint | None, scorer: Scorer, step: Step) -> Row:
    if row.response_ids is not None:
        return row
    answer = await _of_question(row, scorer.greedy(row.context_ids, model))
    step()
    return msgspec.structs.replace(row, response_ids=answer.response_ids)


async def _distribution(row: Row, model: Checkpoint | None, scorer: Scorer, step: Step) -> Distribution:
    assert row.response_ids is not None
    distribution = await _of_question(row, scorer.distribution(row.context_ids, row.response_ids, model))
    step()
    return distribution


async def _of_question(row: Row, work: Awaitable[Result]) -> Result:
    try:
        return await work
    except InvalidInputError as error:
        raise InvalidInputError(f"question {row.question[:80]!r}: {error}") from error


def _row_score(row: Row, first: Distribution, second: Distribution) -> RowScore:
    # A lower bound of a KL that is 0 can be below it by the rounding of float32.
    kls = np.maximum(position_kls(first, second), 0.0)
    agreed = first.top_ids_TK[:, 0] == second.top_ids_TK[:, 0]
    return RowScore(row.key, float(kls.sum()), int(agreed.sum()), len(kls))


def add_changes(changes: dict[int, float], first: Distribution, second: Distribution) -> None:
    """Add, for each token that either lists, how much likelier `second` finds it, summed over the positions.

    A token that only one of them lists may be as likely as the other's last one, or what that leaves: the change
    counted is the smallest possible.
    """
    pairs = zip(first.top_ids_TK, first.top_logprobs_TK, second.top_ids_TK, second.top_logprobs_TK, strict=True)
    for ids_a, logprobs_a, ids_b, logprobs_b in pairs:
        p_a = dict(zip(ids_a.tolist(), np.exp(logprobs_a, dtype=np.float64).tolist(), strict=True))
        p_b = dict(zip(ids_b.tolist(), np.exp(logprobs_b, dtype=np.float64).tolist(), strict=True))
        unlisted_a, unlisted_b = (min(min(p.values()), max(1 - sum(p.values()), 0.0)) for p in (p_a, p_b))
        for token in p_a.keys() | p_b.keys():
            if token not in p_b:
                change = min(0.0, unlisted_b - p_a[token])
            elif token not in p_a:
                change = max(0.0, p_b[token] - unlisted_a)
            else:
                change = p_b[token] - p_a[token]
            changes[token] = changes.get(token, 0.0) + change


def _largest(changes: dict[int, float]) -> dict[str, float]:
    ordered = sorted(changes.items(), key=lambda item: (-item[1], item[0]))
    kept = [*ordered[:MOST_TOKENS], *ordered[MOST_TOKENS:][-MOST_TOKENS:]]
    return {str(token): change for token, change in kept if change != 0.0}
