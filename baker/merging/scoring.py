"""What a version predicts along held-out rows, beside the rows' own teachers. The engine is asked."""

import asyncio
from collections.abc import Sequence

import msgspec
import numpy as np

from baker.divergence import position_kls
from baker.merging.rows import Row
from baker.ports import Sampler
from baker.types import Checkpoint, Distribution

AT_ONCE = 8
"""Requests to the engine at a time: a batch is several times as fast as one after the other."""


class RowScore(msgspec.Struct, frozen=True):
    """A version on one row of T tokens."""

    stimulus: str
    kl: float
    """Sum over the tokens of KL(teacher || version), a lower bound: see `divergence.py`."""
    agreed: int
    """Number of tokens at which both have the same likeliest one."""
    likeliest: list[int]
    """The version's likeliest token at each position."""

    @property
    def tokens(self) -> int:
        return len(self.likeliest)


class Scores(msgspec.Struct, frozen=True):
    rows: list[RowScore]
    """In the order of the rows."""


async def score(rows: Sequence[Row], version: Checkpoint | None, sampler: Sampler, top_logprobs: int) -> Scores:
    """Args: version: None: the base model. Raises: InvalidInputError; AdapterError; EngineError."""
    places = asyncio.Semaphore(AT_ONCE)

    async def of_row(row: Row) -> RowScore:
        async with places:
            predicted = await sampler.distribution(row.context_ids, row.response_ids, top_logprobs, version)
        # Milliseconds a row: on the event loop they would hold up streams.
        return await asyncio.to_thread(_score, row, predicted)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(of_row(row)) for row in rows]
    return Scores([task.result() for task in tasks])


def _score(row: Row, predicted: Distribution) -> RowScore:
    # A lower bound of a KL that is 0 can be below it by the rounding of float32.
    kls = np.maximum(position_kls(row.teacher, predicted), 0.0)
    likeliest = predicted.top_ids_TK[:, 0]
    agreed = int((likeliest == row.teacher.top_ids_TK[:, 0]).sum())
    return RowScore(row.stimulus, float(kls.sum()), agreed, likeliest.tolist())
