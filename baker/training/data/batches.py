"""Trajectories -> tensors, both padded and packed; the shift by one lives here alone.

Rows are padded on the right: under causal attention no real token sees the padding, so no attention mask is needed.
The packed line, for models that can read it, has no padding at all (`packing.py`).
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from baker.training.data.packing import Packing, pack
from baker.types import Trajectory

READ_ROWS, READ_TOKENS = 8, 4096
"""Rows that are read together without gradients, by the teacher or to evaluate, and their tokens."""


SORT_WINDOW = 16  # batches sorted together by length: 1 to 4 % of padding, and their rows still mix by chance


class Batch(NamedTuple):
    """B rows of student context and response, and the N response tokens of all of them in one line."""

    input_ids_BT: Tensor
    """int64; the last response token is left out, since nothing follows it; padding is 0."""
    positions_N: Tensor
    """int64 indices into the flattened (B * T) hidden states: those that predict the response tokens."""
    response_ids_N: Tensor
    """int64; what was sampled there."""
    top_ids_NK: Tensor
    """int64; the teacher's likeliest tokens there."""
    top_logprobs_NK: Tensor
    """float32, nats."""
    tokens: int
    """Tokens of contexts and responses, padding not counted."""
    packing: Packing
    """The same rows in one line."""
    teacher: "Batch | None" = None
    """The same responses after the teacher's contexts, where its logits are to be computed."""
    teacher_states_NLD: Tensor | None = None
    """Or what it came to: the teacher's hidden states that predict the response tokens, of L layers, the last one
    among them."""

    def to(self, device: torch.device) -> "Batch":
        return self._replace(
            **{name: field.to(device) for name, field in self._asdict().items() if hasattr(field, "to")}
        )


class Cut(NamedTuple):
    """Trajectories that fit, and what was done to make them fit."""

    rows: list[Trajectory]
    shortened: int
    """Responses that lost their end."""
    dropped: int
    """Trajectories without room for a response, or without one to begin with."""


def length_of(row: Trajectory) -> int:
    """Tokens of student context and response."""
    return len(row.student_ids) + len(row.response_ids)


def cut(rows: Sequence[Trajectory], max_length: int | None) -> Cut:
    """Shorten responses so that context and response have at most `max_length` tokens; drop what has no response."""
    kept: list[Trajectory] = []
    shortened = dropped = 0
    for row in rows:
        room = len(row.response_ids) if max_length is None else max_length - len(row.student_ids)
        if room < 1 or len(row.student_ids) < 1:
            dropped += 1
        elif room < len(row.response_ids):
            shortened += 1
            kept.append(shorten(row, room))
        else:
            kept.append(row)
    return Cut(kept, shortened, dropped)


def shorten(row: Trajectory, tokens: int) -> Trajectory:
    """The trajectory with the first `tokens` of its response."""
    return Trajectory(
        teacher_ids=row.teacher_ids,
        student_ids=row.student_ids,
        response_ids=row.response_ids[:tokens],
        top_ids_TK=row.top_ids_TK[:tokens],
        top_logprobs_TK=row.top_logprobs_TK[:tokens],
        stimulus=row.stimulus,
    )


def plan_epoch(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """Which rows go into which batch: every row exactly once, like lengths together, batches in random order.

    Deterministic for a seed. Only the last batch to be formed may be smaller than `batch_size`.
    """
    generator = random.Random(seed)
    order = list(range(len(lengths)))
    generator.shuffle(order)
    window = batch_size * SORT_WINDOW
    by_length = [
        row for at in range(0, len(order), window) for row in sorted(order[at : at + window], key=lengths.__getitem__)
    ]
    batches = [by_length[at : at + batch_size] for at in range(0, len(by_length), batch_size)]
    generator.shuffle(batches)
    return batches


def read_together(rows: Sequence[Trajectory]) -> Iterator[list[Trajectory]]:
    """`rows` in their order, as many at a time as are read without gradients: a step's memory is not to be exceeded by
    that. One that is longer than `READ_TOKENS` is read alone."""
    group: list[Trajectory] = []
    longest = 0
    for row in rows:
        longest = max(longest, length_of(row))
        if group and (len(group) == READ_ROWS or (len(group) + 1) * longest > READ_TOKENS):
            yield group
            group, longest = [], length_of(row)
        group.append(row)
    if group:
        yield group


def make_batch(rows: Sequence[Trajectory], *, has_teacher: bool = False) -> Batch:
    """Pad and pack `rows`; K is the smallest of theirs (a shorter top-K is still a proper one).

    Args: has_teacher: whether the batch holds the teacher's side too.

    The hidden state that predicts response token i of a row with C context tokens is that of position C - 1 + i.
    """
    columns = max(length_of(row) for row in rows) - 1
    kept = min(row.top_ids_TK.shape[1] for row in rows)
    input_ids_BT = np.zeros((len(rows), columns), dtype=np.int64)
    positions = []
    inputs = [np.concatenate([row.student_ids, row.response_ids[:-1]]).astype(np.int64) for row in rows]
    for index, (row, ids) in enumerate(zip(rows, inputs, strict=True)):
        input_ids_BT[index, : len(ids)] = ids
        positions.append(index * columns + np.arange(len(row.student_ids) - 1, len(ids)))
    return Batch(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        positions_N=torch.from_numpy(np.concatenate(positions).astype(np.int64)),
        response_ids_N=torch.from_numpy(np.concatenate([row.response_ids for row in rows]).astype(np.int64)),
        top_ids_NK=torch.from_numpy(np.concatenate([row.top_ids_TK[:, :kept] for row in rows]).astype(np.int64)),
        top_logprobs_NK=torch.from_numpy(
            np.concatenate([row.top_logprobs_TK[:, :kept] for row in rows]).astype(np.float32)
        ),
        tokens=sum(length_of(row) for row in rows),
        packing=pack(inputs, [len(row.student_ids) for row in rows]),
        teacher=make_batch([as_taught(row) for row in rows]) if has_teacher else None,
    )


def as_taught(row: Trajectory) -> Trajectory:
    """The trajectory as the teacher reads it."""
    return msgspec.structs.replace(row, student_ids=row.teacher_ids)
