"""The distance from the teacher's middle layers as a part of the loss."""

from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from baker.training.data.batches import make_batch
from baker.training.model import lora, teacher_states
from baker.training.model.student import Student
from baker.training.model.teacher_states import TeacherStates
from tests.baker.tiny import make_model, make_trajectories
from tests.baker.training.model.models import ScaledLlama, gradient_of, shaken

ROWS = make_trajectories(11)
WEIGHT = 3.0


def make_student(layers: int = 6) -> tuple[Student, list[Tensor]]:
    """A student whose adapter has an effect, and the adapter's weights."""
    model = make_model(num_hidden_layers=layers)
    student = Student(model.requires_grad_(False))
    adapter = lora.attach(model, rank=4, alpha=8).model
    student.as_teacher = lambda: lora.as_parent(adapter)
    return student, shaken(adapter)


def middle_by_hand(model: Any, context: Any, response: Any, layers: list[int]) -> Tensor:
    """The inputs of `layers` for a row alone, (L, T, D)."""
    ids = torch.tensor([[*context.tolist(), *response.tolist()]])
    states = model(input_ids=ids, output_hidden_states=True).hidden_states
    return torch.stack([states[layer][0, len(context) - 1 : -1] for layer in layers])


def test_the_middle_layers_are_drawn_to_the_teacher_s() -> None:
    student, weights = make_student()
    assert student.middle_layers == [1, 2, 3, 4]
    plain = make_model(num_hidden_layers=6)
    batch = make_batch(ROWS, has_teacher=True)
    lesson = student.lesson(batch, hidden_weight=WEIGHT)
    distance = torch.zeros(())
    for row in ROWS:
        own = middle_by_hand(student.model, row.student_ids, row.response_ids, student.middle_layers)
        with torch.no_grad():
            teacher = middle_by_hand(plain, row.teacher_ids, row.response_ids, student.middle_layers)
        distance = distance + ((own - teacher).norm(dim=-1) / teacher.norm(dim=-1)).square().mean(0).sum()
    assert float(lesson.divergence.detach()) == pytest.approx(float(student.divergence(batch).detach()), rel=1e-5)
    expected = student.divergence(batch) + WEIGHT * distance
    assert float(lesson.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    one, other = gradient_of(lesson.loss, weights), gradient_of(expected, weights)
    assert (one - other).norm() < 1e-4 * other.norm()


def test_the_loss_is_zero_where_student_and_teacher_agree() -> None:
    student, weights = make_student()
    with torch.no_grad():
        for weight in weights[1::2]:
            weight.zero_()
    agreeing = [msgspec.structs.replace(row, teacher_ids=row.student_ids) for row in ROWS]
    loss = student.lesson(make_batch(agreeing, has_teacher=True), hidden_weight=WEIGHT).loss
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-4)


def test_kept_states_give_the_loss_of_computed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    student, weights = make_student()
    assert TeacherStates.fit(student, ROWS, student.middle_layers)
    rows = [ROWS[2], ROWS[9], ROWS[0]]
    kept = make_batch(rows)._replace(teacher_states_NLD=TeacherStates(student, ROWS, student.middle_layers).of(rows))
    lessons = [student.lesson(batch, hidden_weight=WEIGHT) for batch in (kept, make_batch(rows, has_teacher=True))]
    assert float(lessons[0].loss.detach()) == pytest.approx(float(lessons[1].loss.detach()), rel=1e-4)
    one, other = (gradient_of(lesson.loss, weights) for lesson in lessons)
    assert (one - other).norm() < 1e-3 * other.norm()
    most = sum(len(row.response_ids) for row in ROWS) * 5 * 32 * 4
    monkeypatch.setattr(teacher_states, "TEACHER_BYTES", most)
    assert TeacherStates.fit(student, ROWS, student.middle_layers)
    monkeypatch.setattr(teacher_states, "TEACHER_BYTES", most - 1)
    assert not TeacherStates.fit(student, ROWS, student.middle_layers)


def test_scaled_logits_or_a_top_k_teacher_leave_only_the_divergence() -> None:
    model = make_model()
    model.__class__ = ScaledLlama
    student = Student(model.requires_grad_(False))
    adapter = lora.attach(model, rank=4, alpha=8).model
    student.as_teacher = lambda: lora.as_parent(adapter)
    shaken(adapter)
    lesson = student.lesson(make_batch(ROWS, has_teacher=True), hidden_weight=WEIGHT)
    assert float(lesson.loss.detach()) == float(lesson.divergence.detach())
    lesson = make_student()[0].lesson(make_batch(ROWS), hidden_weight=WEIGHT)
    assert float(lesson.loss.detach()) == float(lesson.divergence.detach())
