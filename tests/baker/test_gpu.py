"""What only a GPU computes: flash attention over packed rows, compiled layers, the loss in large chunks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from baker import lora, losses
from baker.attention import Lengths, as_taken, packed_attention
from baker.batches import make_batch
from baker.packing import pack
from baker.student import Student
from tests.baker.test_full_teacher import gradient_of, shaken
from tests.baker.tiny import make_model, make_trajectories

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),  # of the compiler
]
GPU = torch.device("cuda")
BATCHES = [make_batch(make_trajectories(count, seed=count), has_teacher=True) for count in (5, 2, 3)]


def distance(tensor: Tensor, reference: Tensor) -> float:
    return float((tensor.float() - reference).norm() / reference.norm())


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("groups", [2, 8])
def test_flash_attention_is_the_plain_one(shared: int, groups: int) -> None:
    random = np.random.default_rng(0)
    rows = [np.concatenate([np.arange(shared), random.integers(1000, size=size)]) for size in (100, 150, 77)]
    packing = pack(rows, [1, 1, 1])
    torch.manual_seed(0)
    line = len(packing.source_T)
    inputs = [torch.randn(heads, line, 64, device=GPU) for heads in (8, groups, groups)]
    weight = torch.randn(line, 8, 64, device=GPU)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        taken = as_taken(packing, GPU, dtype)
        assert isinstance(taken, Lengths) == (dtype == torch.bfloat16)
        leaves = [part.to(dtype).requires_grad_() for part in inputs]
        output = packed_attention(*leaves, taken, 64**-0.5)
        found.append([output.detach(), *torch.autograd.grad((output * weight).sum(), leaves)])
    assert all(distance(flash, plain) < 0.02 for plain, flash in zip(*found, strict=True))


def make_student(dtype: torch.dtype) -> tuple[Student, list[Tensor]]:
    model = make_model(num_hidden_layers=6, hidden_size=64, initializer_range=0.1)
    model.to(GPU, dtype).requires_grad_(False)
    student = Student(model)
    adapter = lora.attach(model, rank=4, alpha=8).model
    student.as_teacher = lambda: lora.as_parent(adapter)
    return student, shaken(adapter)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_compiled_layers_learn_the_same(dtype: torch.dtype, tolerance: float) -> None:
    student, weights = make_student(dtype)
    assert student.is_packed
    reference, its_weights = make_student(torch.float32)
    assert student.compile_layers(BATCHES[0]) is None
    student.model.train()
    for batch in (batch.to(GPU) for batch in BATCHES):
        expected = gradient_of(reference.lesson(batch, hidden_weight=3.0).loss, its_weights)
        assert distance(gradient_of(student.lesson(batch, hidden_weight=3.0).loss, weights), expected) < tolerance


def test_the_loss_is_the_same_in_chunks_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden, teacher, head = torch.randn(300, 64), torch.randn(300, 64), torch.randn(500, 64)
    monkeypatch.setattr(losses, "GPU_CHUNK_BYTES", 100 * 4 * 500)
    found = []
    for device in (torch.device("cpu"), GPU):
        leaf = hidden.to(device).requires_grad_()
        loss = losses.full_head_divergence(leaf, teacher.to(device), head.to(device))
        found.append((loss.detach().cpu(), torch.autograd.grad(loss, leaf)[0].cpu()))
    assert all(distance(on_gpu, on_cpu) < 1e-4 for on_cpu, on_gpu in zip(*found, strict=True))
