from pathlib import Path

import pytest
import torch

from baker.errors import TrainingError
from baker.storage.files import read_lines
from baker.training import events
from baker.training.model.student import Lesson, Student
from baker.training.run import loop
from baker.training.run.run_context import Stopped
from tests.baker.tiny import make_trajectories
from tests.baker.training.run.loops import make_loop


def test_another_divergence_is_trained_and_the_same_one_evaluated(tmp_path: Path) -> None:
    held_out = {"target": make_trajectories(3, seed=3)}
    outcomes = []
    for name, data in (("plain", {}), ("other", {"beta": 0.5, "temperature": 2.0}), ("off", {"beta": 0.0})):
        (tmp_path / name).mkdir()
        trained, _ = make_loop(tmp_path / name, held_out=held_out, epochs=20, data=data)
        list(trained.steps())
        outcomes.append(trained)
    plain, other, off = outcomes
    assert other.history.losses[0] != pytest.approx(plain.history.losses[0], rel=0.01)
    assert other.history.evaluations[0] == plain.history.evaluations[0]
    assert other.history.evaluations[-1].eval_kl < 0.9 * other.history.evaluations[0].eval_kl
    assert off.history.losses == plain.history.losses, "a beta of 0 is the default"


def test_float16_keeps_small_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_trajectories(4)

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        trained, _ = make_loop(tmp_path, rows=rows, dtype=dtype, micro_batch_size=len(rows))
        (step,) = trained._steps_of_epoch()
        trained._backward(step)
        return torch.cat([p.grad.flatten() for p in trained.parameters if p.grad is not None])

    lesson = Student.lesson
    monkeypatch.setattr(Student, "lesson", lambda *arguments: Lesson(*(part * 1e-5 for part in lesson(*arguments))))
    exact = gradient(torch.float32)
    assert (gradient(torch.float16) - exact).norm() < 0.1 * exact.norm()
    monkeypatch.setattr(loop, "FLOAT16_LOSS_SCALE", 1.0)
    assert (gradient(torch.float16) - exact).norm() > 0.5 * exact.norm(), "without the scale, float16 loses them"


def test_accumulated_batches_give_the_gradient_of_one_batch(tmp_path: Path) -> None:
    gradients = []
    for size, accumulated in ((6, 1), (2, 3)):
        trained, _ = make_loop(tmp_path, micro_batch_size=size, gradient_accumulation_steps=accumulated)
        (step,) = trained._steps_of_epoch()
        assert len(step.batches) == accumulated
        losses = trained._backward(step)
        mean = sum(weight * float(nats) for weight, nats in losses)
        gradients.append((mean, torch.cat([p.grad.flatten() for p in trained.parameters if p.grad is not None])))
    (one, whole), (other, in_parts) = gradients
    assert other == pytest.approx(one, rel=1e-5)
    assert (in_parts - whole).norm() < 1e-4 * whole.norm()


def test_a_stop_request_ends_it_before_the_next_batch_and_keeps_whole_steps_alone(tmp_path: Path) -> None:
    trained, emitted = make_loop(tmp_path)
    steps = trained.steps()
    next(steps)
    before = [weight.clone() for weight in trained.parameters]
    trained._context = trained._context._replace(is_stopping=lambda: True)
    with pytest.raises(Stopped):
        next(steps)
    assert trained.step == 1 and trained.history.losses == [e.loss for e in emitted if isinstance(e, events.Stepped)]
    assert all(torch.equal(one, other) for one, other in zip(before, trained.parameters, strict=True))
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 1


def test_a_student_that_cannot_learn_is_an_error(tmp_path: Path) -> None:
    trained, _ = make_loop(tmp_path)
    with torch.no_grad():
        for weight in trained.parameters:  # A and B both zero: neither has a gradient
            weight.zero_()
    with pytest.raises(TrainingError, match="step 1: all gradients are zero"):
        next(trained.steps())
    assert trained.step == 0
