"""The questions that changed most: both versions' answers, and where they part."""

from collections.abc import Sequence

import msgspec

from baker.comparison.probe_set import Row, RowKind
from baker.comparison.scorer import Scorer
from baker.comparison.scores import RowScore, Step
from baker.comparison.versions import Version
from baker.divergence import top_kl
from baker.types import Distribution, Sample

CHOSEN = (RowKind.PROBE, RowKind.QUESTION)


class Parting(msgspec.Struct, frozen=True):
    """The first position at which two answers differ."""

    token: int
    """Number of tokens before it, which both answers share."""
    kl: float
    """KL(a || b) there, in nats."""
    shared: str
    """Text before it."""
    a: str
    """Text of each version's token there; empty if its answer was cut before."""
    b: str


class Hunk(msgspec.Struct, frozen=True):
    """Both versions' greedy answers to one question, as they are: texts may hold control characters."""

    kind: RowKind
    group: str
    question: str
    kl: float
    """Mean KL(a || b) along the row's own answer, in nats per token."""
    answer_a: str
    answer_b: str
    parting: Parting | None
    """None: both answer alike."""


def most_changed(rows: Sequence[Row], scores: Sequence[RowScore], limit: int) -> list[tuple[Row, RowScore]]:
    """The rows with the largest mean KL, one for each question of a group. Questions that the client chose go first."""

    def rank(pair: tuple[Row, RowScore]) -> tuple[bool, float, str]:
        row, score = pair
        return row.kind not in CHOSEN, -score.kl / score.tokens, row.key

    pairs = sorted(zip(rows, scores, strict=True), key=rank)
    chosen: dict[tuple[RowKind, str, str], tuple[Row, RowScore]] = {}
    for row, score in pairs:
        chosen.setdefault((row.kind, row.group, row.question), (row, score))
    return list(chosen.values())[:limit]


async def hunk(row: Row, score: RowScore, a: Version, b: Version, scorer: Scorer, step: Step) -> Hunk:
    """Raises: AdapterError; EngineError."""
    width = scorer.top_logprobs
    answer_a = await scorer.greedy(row.context_ids, a.checkpoint, top_logprobs=width)
    step()
    answer_b = answer_a if a.id == b.id else await scorer.greedy(row.context_ids, b.checkpoint, top_logprobs=width)
    step()
    return Hunk(
        kind=row.kind,
        group=row.group,
        question=row.question,
        kl=score.kl / score.tokens,
        answer_a=answer_a.text,
        answer_b=answer_b.text,
        parting=parting(answer_a, answer_b, scorer),
    )


def parting(a: Sample, b: Sample, scorer: Scorer) -> Parting | None:
    """Where the answers part; None if they are equal as far as the shorter one was cut."""
    ids_a, ids_b = a.response_ids, b.response_ids
    place = next((at for at, pair in enumerate(zip(ids_a, ids_b, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return None
    texts_a, texts_b = scorer.texts(ids_a[: place + 1]), scorer.texts(ids_b[: place + 1])
    return Parting(
        token=place,
        kl=max(0.0, top_kl(_at(a, place), _at(b, place))),
        shared="".join(texts_a[:-1]),
        a=texts_a[-1],
        b=texts_b[-1],
    )


def _at(sample: Sample, place: int) -> Distribution:
    return Distribution(sample.top_ids_TK[place : place + 1], sample.top_logprobs_TK[place : place + 1])
