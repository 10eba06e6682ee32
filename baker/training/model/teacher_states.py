"""The teacher's hidden states for a bake's rows, computed once: the last ones, from which the head computes logits, and
those of some earlier layers.

They take D numbers per token where logits take V, so those of a whole bake are kept if they fit: a teacher over the
whole vocabulary then costs one forward pass over the rows, not one in every epoch.
"""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from baker.training.data.batches import read_groups, teacher_view
from baker.training.model.student import Student
from baker.types import Trajectory

TEACHER_BYTES = 1 << 30
"""Limit on the hidden states that are kept: for an 8B model, those of five layers for 26,000 response tokens."""


class TeacherStates:
    def __init__(self, student: Student, rows: Sequence[Trajectory], layers: Sequence[int] = ()) -> None:
        """Args:
        rows: all rows that will be requested, in the order of the first requests, so that none is computed long before
            it is needed; rows may repeat. Which rows are computed together changes the last bits, so a training that
            is continued passes the order of its first epoch too.
        layers: layers whose inputs are kept beside the last states.
        """
        self._student, self._layers = student, layers
        distinct = list({id(row): row for row in rows}.values())
        self._group_of: dict[int, list[Trajectory]] = {}
        remaining = iter(distinct)
        for views in read_groups([teacher_view(row) for row in distinct]):
            group = list(islice(remaining, len(views)))
            self._group_of |= {id(row): group for row in group}
        self._states: dict[int, Tensor] = {}

    @staticmethod
    def fit(student: Student, rows: Sequence[Trajectory], layers: Sequence[int] = ()) -> bool:
        """Whether the model's head is plain, and the states of `rows` are within the limit."""
        states = sum(len(row.response_ids) for row in rows) * (len(layers) + 1)
        return student.state_bytes is not None and states * student.state_bytes <= TEACHER_BYTES

    def of(self, rows: Sequence[Trajectory]) -> Tensor:
        """The states that predict the response tokens of `rows`, (N, L, D), in the model's type and on its device."""
        for row in rows:
            if id(row) not in self._states:
                group = self._group_of[id(row)]
                states = self._student.teacher_states(group, self._layers)
                self._states.update(zip(map(id, group), states, strict=True))
        return torch.cat([self._states[id(row)] for row in rows])
