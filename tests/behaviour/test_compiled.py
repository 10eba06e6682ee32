"""Training with compiled layers. Here they are only traced; test_gpu.py compiles them for a GPU."""

import subprocess
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from baker.training.data.batches import make_batch
from baker.training.model import lora
from baker.training.model.student import Student
from tests.baker.tiny import make_model, make_trajectories
from tests.baker.training.model.models import gradient_of, shaken

pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
BATCHES = [make_batch(make_trajectories(count, seed=count), has_teacher=True) for count in (5, 2, 3)]


@pytest.fixture(autouse=True)
def _nothing_traced() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def make_student(dropout: float = 0.0) -> tuple[Student, list[Tensor]]:
    model = make_model(num_hidden_layers=6)
    student = Student(model.requires_grad_(False))
    adapter = lora.attach(model, rank=4, alpha=8, dropout=dropout).model
    student.as_teacher = lambda: lora.as_parent(adapter)
    return student, shaken(adapter)


@pytest.mark.parametrize("recomputes", [False, True])
def test_compiled_layers_learn_the_same(recomputes: bool) -> None:
    student, weights = make_student()
    if recomputes:
        student.recompute_activations()
        student.model.train()
    plain = [gradient_of(student.lesson(batch, hidden_weight=3.0).loss, weights) for batch in BATCHES]
    compared = student.compare(BATCHES[0])
    assert student.compile_layers(BATCHES[0], backend="aot_eager") is None
    assert all(weight.grad is None for weight in weights)
    student.model.train()
    for batch, gradient in zip(BATCHES, plain, strict=True):
        compiled = gradient_of(student.lesson(batch, hidden_weight=3.0).loss, weights)
        assert (compiled - gradient).norm() < 1e-5 * gradient.norm()
    assert student.compare(BATCHES[0]) == compared


def test_only_training_passes_run_compiled() -> None:
    student, _ = make_student()
    traces: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        traces.append("traced")
        return graph

    torch._dynamo.register_backend(backend, name="counting")
    assert student.compile_layers(BATCHES[0], backend="counting") is None
    before = len(traces)
    assert before
    student.compare(BATCHES[1])
    student.response_logprobs(BATCHES[1])
    student.teacher_states(make_trajectories(2))
    assert len(traces) == before


def test_without_a_compiler_the_layers_stay_as_they_are() -> None:
    student, weights = make_student()
    plain = gradient_of(student.lesson(BATCHES[0]).loss, weights)

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        raise subprocess.CalledProcessError(1, "cc", stderr="no such file")

    torch._dynamo.register_backend(backend, name="broken")
    failure = student.compile_layers(BATCHES[0], backend="broken")
    assert failure and "CalledProcessError" in failure and "\n" not in failure
    assert torch.equal(gradient_of(student.lesson(BATCHES[0]).loss, weights), plain)
