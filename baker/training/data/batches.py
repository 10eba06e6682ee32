"""Trajectories -> tensors, padded and packed. The shift by one between input and predicted token is only here.

Rows are padded on the right: under causal attention no real token sees the padding, so no attention mask is needed.
The packed line, for models that can read it, has no padding (`packing.py`).
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
"""Largest number of rows, and of tokens with padding, in a forward pass without gradients (teacher, evaluation)."""

SORT_WINDOW = 16
"""Number of batches whose rows are sorted by length together: 1 to 4 % of padding, and rows still mix randomly."""


class Batch(NamedTuple):
    """B rows of student context and response, and the N response tokens of all of them in one line."""

    input_ids_BT: Tensor
    """int64 token ids without each row's last one, since nothing follows it; padding is 0."""
    positions_N: Tensor
    """int64 indices into the flattened (B * T) hidden states: those that predict the response tokens."""
    response_ids_N: Tensor
    """int64 ids of the response tokens."""
    top_ids_NK: Tensor
    """int64 ids of the teacher's likeliest tokens at these positions."""
    top_logprobs_NK: Tensor
    """Their log-probabilities: float32, in nats."""
    tokens: int
    """Number of tokens of contexts and responses, without padding."""
    packing: Packing
    """The same rows in one line."""
    teacher: "Batch | None" = None
    """The same responses after the teacher's contexts, if the teacher's logits are to be computed from it."""
    teacher_states_NLD: Tensor | None = None
    """The teacher's hidden states that predict the response tokens, of L layers with the last one, if kept already."""

    def to(self, device: torch.device) -> "Batch":
        return self._replace(
            **{name: field.to(device) for name, field in self._asdict().items() if hasattr(field, "to")}
        )


class Cut(NamedTuple):
    """Trajectories that fit the length limit, and how many had to change."""

    rows: list[Trajectory]
    shortened: int
    """Number of responses that lost their end."""
    dropped: int
    """Number of trajectories without a response, or whose context leaves no room for one."""


def length_of(row: Trajectory) -> int:
    """Number of tokens of student context and response."""
    return len(row.student_ids) + len(row.response_ids)


def cut(rows: Sequence[Trajectory], max_length: int | None) -> Cut:
    """Shortens responses so that context and response have at most `max_length` tokens; drops rows without response."""
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
    """The trajectory with only the first `tokens` tokens of its response."""
    return Trajectory(
        teacher_ids=row.teacher_ids,
        student_ids=row.student_ids,
        response_ids=row.response_ids[:tokens],
        top_ids_TK=row.top_ids_TK[:tokens],
        top_logprobs_TK=row.top_logprobs_TK[:tokens],
        stimulus=row.stimulus,
    )


def plan_epoch(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """The indices of the rows of each batch: every row exactly once, similar lengths together, batches in random order.

    Deterministic for a seed. At most one batch, anywhere in the order, is smaller than `batch_size`.
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


def read_groups(rows: Sequence[Trajectory]) -> Iterator[list[Trajectory]]:
    """Groups `rows`, in order, for forward passes without gradients, which should not need more memory than a training
    step. A row longer than `READ_TOKENS` is a group of its own."""
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
    """Pads and packs `rows`; K is the smallest of the rows' own (the first K of a longer top list are still valid).

    Args: has_teacher: whether the batch also holds the teacher's side.

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
        teacher=make_batch([teacher_view(row) for row in rows]) if has_teacher else None,
    )


def teacher_view(row: Trajectory) -> Trajectory:
    """The trajectory with the teacher's context in place of the student's."""
    return msgspec.structs.replace(row, student_ids=row.teacher_ids)
