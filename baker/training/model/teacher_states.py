"""The teacher's side of a bake's rows, computed once: its last hidden states, of which the head makes its logits, and
those of some layers before.

They take D numbers a token where logits take V, so those of a whole bake are kept where they fit: a teacher over the
whole vocabulary then costs one forward pass over the rows, not one in every pass.
"""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from baker.training.data.batches import as_taught, read_together
from baker.training.model.student import Student
from baker.types import Trajectory

TEACHER_BYTES = 1 << 30
"""Most that is kept of the teacher's hidden states: of an 8B model, those of five layers of 26,000 response tokens."""


class TeacherStates:
    def __init__(self, student: Student, rows: Sequence[Trajectory], layers: Sequence[int] = ()) -> None:
        """Args:
        rows: all that will be asked for, in the order in which they first are, so that none is computed long before;
            one may stand there more than once. Which ones are read together moves the last bits, so it is the order of
            a training's first pass, also where that goes on later.
        layers: whose states are kept beside the last.
        """
        self._student, self._layers = student, layers
        distinct = list({id(row): row for row in rows}.values())
        self._group_of: dict[int, list[Trajectory]] = {}
        left = iter(distinct)
        for taught in read_together([as_taught(row) for row in distinct]):
            group = list(islice(left, len(taught)))
            self._group_of |= {id(row): group for row in group}
        self._states: dict[int, Tensor] = {}

    @staticmethod
    def fit(student: Student, rows: Sequence[Trajectory], layers: Sequence[int] = ()) -> bool:
        """Whether the model's logits are made of hidden states alone, and those of `rows` may be kept."""
        states = sum(len(row.response_ids) for row in rows) * (len(layers) + 1)
        return student.state_bytes is not None and states * student.state_bytes <= TEACHER_BYTES

    def of(self, rows: Sequence[Trajectory]) -> Tensor:
        """(N, L, D): those that predict the response tokens of `rows`, in the model's own type, where it computes."""
        for row in rows:
            if id(row) not in self._states:
                group = self._group_of[id(row)]
                states = self._student.teacher_states(group, self._layers)
                self._states.update(zip(map(id, group), states, strict=True))
        return torch.cat([self._states[id(row)] for row in rows])
