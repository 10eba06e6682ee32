"""The estimated need, compared with a child process that trains."""

import subprocess
import sys
from pathlib import Path

import pytest

from baker.config.bake import bake_config
from baker.errors import StageError
from baker.training.setup.memory import (
    MIB,
    RUNTIME_BYTES,
    estimate,
    read_shape,
    token_bytes,
)
from tests.baker.tiny import make_model, save_model

CHILD = """
import sys
from pathlib import Path
import torch
from baker.training.model import lora
from baker.training.data.batches import make_batch
from baker.training.model.base import load_base
from baker.training.model.student import Student
from tests.baker.tiny import make_trajectories
student = Student(load_base(Path(sys.argv[1]), torch.device("cpu"), "bfloat16").model)
adapter = lora.attach(student.model, rank=16, alpha=16).model
optimizer = torch.optim.AdamW([p for p in adapter.parameters() if p.requires_grad], fused=True)
batch = make_batch(make_trajectories(2))
for _ in range(2):
    student.divergence(batch).backward()
    optimizer.step()
from baker.free_memory import peak_bytes
print(peak_bytes())
"""


def test_the_shape_gives_the_number_of_parameters(tmp_path: Path) -> None:
    shape, model = read_shape(save_model(tmp_path / "model")), make_model()
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert shape.parameters == sum(p.numel() for p in model.parameters()) - norms
    linear = {name.rpartition(".")[2]: m for name, m in model.model.named_modules() if name.endswith("_proj")}
    assert shape.linear == {name: (module.in_features, module.out_features) for name, module in linear.items()}


def test_a_tiny_bake_needs_about_the_estimate(tmp_path: Path) -> None:
    """Here the process itself is almost all of it; benchmarks/README.md has a larger model."""
    folder = save_model(tmp_path / "model")
    done = subprocess.run([sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, check=True)
    need = estimate(read_shape(folder), bake_config({}), [12, 12])
    assert 0.5 < (need.total - need.logits) / int(done.stdout) < 2.0, "its logits are far below a chunk"
    assert need.activations < MIB and need.runtime == RUNTIME_BYTES["cpu"]


def test_the_need_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    shape, config = read_shape(save_model(tmp_path / "model")), bake_config({"micro_batch_size": 2})
    need = estimate(shape, config, [10, 20, 30])
    assert need.activations == 30 * token_bytes(shape, 16, 2, keys=15) + 20 * token_bytes(shape, 16, 2, keys=10)
    assert estimate(shape, config, [10, 20, 30], dtype="float32").weights == 2 * need.weights == 4 * shape.parameters
    full = bake_config({"data": {"teacher": "full"}, "micro_batch_size": 2})
    no_grad_bytes = 2 * (4 * 48 + 4 * 32 + 32 + 2 * 16 + 5 * 32) + 4 * 32
    assert estimate(shape, full, [10, 20, 30]).activations == need.activations + 60 * 5 * 32 * 2
    assert estimate(shape, full, [10, 20, 30], device="cuda").activations == need.activations + 60 * 5 * 32 * 2
    assert estimate(shape, full, [10, 20, 30], keeps_teacher=False) == estimate(shape, config, [10, 20, 30])
    long = estimate(shape, full, [10, 20, 30], teacher_lengths=[5000, 10])
    assert long.activations - estimate(shape, full, [10, 20, 30]).activations == 5010 * no_grad_bytes - need.activations
    several = estimate(shape, full, [10, 20, 30], teacher_lengths=[900] * 9)
    assert several.activations - long.activations == (4096 - 5010) * no_grad_bytes, (
        "the largest group without gradients"
    )
    assert estimate(shape, config, [10, 20, 30], teacher_lengths=[5000]) == need, "a top-k teacher reads no rows"
    recomputed = estimate(shape, full, [10, 20, 30], teacher_lengths=[5000, 10], keeps_teacher=False)
    assert recomputed.activations == 5010 * no_grad_bytes, "read again in every step"
    evaluated = estimate(shape, config, [60] * 8)
    assert evaluated.activations == 480 * no_grad_bytes > 2 * 60 * token_bytes(shape, 16, 2, keys=30)
    two_projections = bake_config({"model": {"baked_adapter_config": {"target_modules": "q_proj, v_proj", "r": 4}}})
    assert estimate(shape, two_projections, [10]).adapter == 16 * 2 * 4 * (32 + 32 + 32 + 16)
    assert f"{need.total / MIB:,.0f} MiB (weights" in str(need)


def test_recomputing_keeps_each_layer_s_input_and_one_layer(tmp_path: Path) -> None:
    shape, config = read_shape(save_model(tmp_path / "model")), bake_config({})
    whole, again = (estimate(shape, config, [20], recomputes=recomputes) for recomputes in (False, True))
    one_layer = token_bytes(shape._replace(layers=1), 16, 2, keys=10)
    assert whole.activations == 20 * 2 * one_layer
    assert again.activations == 20 * (one_layer + 2 * 32 * 2)
    assert again._replace(activations=0) == whole._replace(activations=0)


def test_a_folder_without_a_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="lacks its shape"):
        read_shape(tmp_path)
