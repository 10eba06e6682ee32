"""What only a GPU does: flash attention over packed rows, compiled layers, the loss in large chunks, and weights in
another process's memory."""

import multiprocessing
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baker.training.data.batches import make_batch
from baker.training.data.packing import pack
from baker.training.model import lora, losses
from baker.training.model.attention import Lengths, packed_attention, packing_argument
from baker.training.model.base import SDPA, from_files, load_base
from baker.training.model.engine_weights import from_engine, open_lent
from baker.training.model.student import Student
from gateway.engine.worker.lending import handles_of
from tests.baker.tiny import make_model, make_trajectories, save_model
from tests.baker.training.model.models import gradient_of, shaken

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),  # from the compiler
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
    outcomes = []
    for dtype in (torch.float32, torch.bfloat16):
        argument = packing_argument(packing, GPU, dtype)
        assert isinstance(argument, Lengths) == (dtype == torch.bfloat16)
        leaves = [part.to(dtype).requires_grad_() for part in inputs]
        output = packed_attention(*leaves, argument, 64**-0.5)
        outcomes.append([output.detach(), *torch.autograd.grad((output * weight).sum(), leaves)])
    assert all(distance(flash, plain) < 0.02 for plain, flash in zip(*outcomes, strict=True))


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
    outcomes = []
    for device in (torch.device("cpu"), GPU):
        leaf = hidden.to(device).requires_grad_()
        loss = losses.full_head_divergence(leaf, teacher.to(device), head.to(device))
        outcomes.append((loss.detach().cpu(), torch.autograd.grad(loss, leaf)[0].cpu()))
    assert all(distance(on_gpu, on_cpu) < 1e-4 for on_cpu, on_gpu in zip(*outcomes, strict=True))


FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


def hold(folder: Path, connection: Connection) -> None:
    """Holds the model in vLLM's layout in a process of its own, sends the handles, and waits to be terminated."""
    read = from_files(folder, torch.bfloat16, SDPA)
    weights = {name: weight.data.to(GPU) for name, weight in read.named_parameters()}
    for layer in sorted({name.rpartition(".")[0].rpartition(".")[0] for name in weights}):
        for fused, parts in FUSED.items():
            if f"{layer}.{parts[0]}.weight" in weights:
                rows = [weights.pop(f"{layer}.{part}.weight") for part in parts]
                weights[f"{layer}.{fused}.base_layer.weight"] = torch.cat(rows)
    table = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = torch.cat([table, table.new_zeros(3, table.shape[1])])
    model = SimpleNamespace(
        named_parameters=lambda: [(name, nn.Parameter(weight, False)) for name, weight in weights.items()],
        packed_modules_mapping=FUSED,
    )
    config = SimpleNamespace(
        parallel_config=SimpleNamespace(world_size=1),
        model_config=SimpleNamespace(quantization=None, enable_sleep_mode=False, enable_cumem_allocator=False),
        offload_config=SimpleNamespace(
            uva=SimpleNamespace(cpu_offload_gb=0), prefetch=SimpleNamespace(offload_group_size=0)
        ),
    )
    runner = SimpleNamespace(get_model=lambda: model)
    connection.send(handles_of(SimpleNamespace(vllm_config=config, model_runner=runner, device=GPU)))
    connection.recv()


def test_weights_in_another_process_s_memory_are_trained_on(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    here, there = multiprocessing.Pipe()
    holder = multiprocessing.get_context("spawn").Process(target=hold, args=(folder, there), daemon=True)
    holder.start()
    there.close()  # otherwise the end of the holder would not be noticed
    try:
        (tmp_path / "handles").write_bytes(here.recv())
        outcomes = []
        for weights in (from_files, partial(from_engine, open_lent(tmp_path / "handles"))):
            before = torch.cuda.memory_allocated()
            model = load_base(folder, GPU, "bfloat16", weights=weights).model
            size = torch.cuda.memory_allocated() - before
            student = Student(model)
            adapter = lora.attach(model, rank=4, alpha=8).model
            trained = shaken(adapter)
            student.divergence(BATCHES[0].to(GPU)).backward()
            outcomes.append((size, [weight.grad.clone() for weight in trained]))
        (own, expected), (lent, gradients) = outcomes
        numbers = sum(weight.numel() for weight in model.parameters())
        assert own > numbers and lent < numbers / 4, "the bytes of a copy, against those of buffers alone"
        assert all(distance(*pair) < 1e-3 for pair in zip(gradients, expected, strict=True))
    finally:
        holder.terminate()
        holder.join()
