import pytest
from torch import Tensor

from baker.training.data import batches
from baker.training.data.batches import make_batch
from baker.training.model import lora, teacher_states
from baker.training.model.student import Student
from baker.training.model.teacher_states import TeacherStates
from baker.types import Trajectory
from tests.baker.tiny import make_model, make_trajectories
from tests.baker.training.model.models import ScaledLlama, shaken

ROWS = make_trajectories(5)


@pytest.mark.parametrize("kind", ["plain", "padded"])
def test_kept_states_give_the_loss_of_computed_ones(kind: str) -> None:
    model = make_model()
    if kind == "padded":
        model.set_attn_implementation("eager")
    student = Student(model.requires_grad_(False))
    adapter = lora.attach(model, rank=4, alpha=8).model
    student.as_teacher = lambda: lora.as_parent(adapter)
    shaken(adapter)
    rows = [*ROWS, ROWS[0], *make_trajectories(9, seed=3)]
    assert TeacherStates.fit(student, rows)
    states = TeacherStates(student, rows)
    for group in (rows[2:7], rows[:3], rows[::-1]):
        batch = make_batch(group)._replace(teacher_states_NLD=states.of(group))
        computed = student.divergence(make_batch(group, has_teacher=True))
        assert float(student.divergence(batch).detach()) == pytest.approx(float(computed.detach()), rel=1e-4)


def test_models_that_scale_their_logits_keep_no_states() -> None:
    model = make_model()
    model.__class__ = ScaledLlama
    assert not TeacherStates.fit(Student(model), ROWS)


def test_each_row_is_computed_once_in_the_order_of_the_first_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student(make_model().requires_grad_(False))
    passes: list[list[str]] = []
    compute = Student.teacher_states

    def counted(self: Student, rows: list[Trajectory], layers: list[int]) -> list[Tensor]:
        passes.append([row.stimulus for row in rows])
        return compute(self, rows, layers)

    monkeypatch.setattr(Student, "teacher_states", counted)
    monkeypatch.setattr(batches, "READ_ROWS", 2)
    order = [ROWS[3], ROWS[0], ROWS[3], ROWS[4], ROWS[1], ROWS[2]]
    states = TeacherStates(student, order)
    states.of(order[:1])
    assert passes == [["question 3", "question 0"]]
    states.of(order)
    states.of(order[::-1])
    assert passes == [["question 3", "question 0"], ["question 4", "question 1"], ["question 2"]]


def test_states_that_do_not_fit_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student(make_model())
    size = sum(len(row.response_ids) for row in ROWS) * 32 * 4
    monkeypatch.setattr(teacher_states, "TEACHER_BYTES", 3 * size)
    assert TeacherStates.fit(student, ROWS) and TeacherStates.fit(student, ROWS, layers=[0, 1])
    assert not TeacherStates.fit(student, ROWS, layers=[0, 1, 1])
