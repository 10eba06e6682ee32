"""Norms, inner products and ranks from factors, against the big matrices that they stand for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from baker.adapters import updates
from baker.adapters.updates import Update


def random_update(rng: np.random.Generator, rank: int, out: int = 13, width: int = 7) -> Update:
    return Update(rng.normal(size=(out, rank)), rng.normal(size=(rank, width)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_the_factors_give_what_the_big_matrices_give(seed: int, first_rank: int, second_rank: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = random_update(rng, first_rank), random_update(rng, second_rank)
    dense_first, dense_second = first.b @ first.a, second.b @ second.a
    assert updates.inner(first, second) == pytest.approx((dense_first * dense_second).sum())
    assert updates.norm(first) == pytest.approx(np.linalg.norm(dense_first))
    assert updates.distance(first, second) == pytest.approx(np.linalg.norm(dense_second - dense_first))
    assert updates.rank(first) == np.linalg.matrix_rank(dense_first)
    exact = np.linalg.svd(dense_first, compute_uv=False)[:first_rank]
    np.testing.assert_allclose(updates.singular_values(first), exact, atol=1e-7 * exact[0])


def test_a_small_distance_is_not_lost_and_none_is_zero() -> None:
    update = random_update(np.random.default_rng(0), 3)
    nearly = Update(update.b * (1 + 1e-5), update.a)
    assert updates.distance(update, nearly) == pytest.approx(1e-5 * updates.norm(update), rel=1e-3)
    assert updates.distance(update, update) == updates.distance(None, None) == 0.0
    assert updates.distance(update, None) == updates.distance(None, update) == pytest.approx(updates.norm(update))


def test_dependent_columns_do_not_count_as_rank() -> None:
    b = np.random.default_rng(0).normal(size=(9, 2))
    assert updates.rank(Update(np.hstack([b, b]), np.eye(4, 8))) == 2
    assert updates.rank(Update(np.zeros((9, 4)), np.eye(4, 8))) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("use_rslora", "scale"), [(False, 6 / 2), (True, 6 / 2**0.5)])
def test_files_are_read_in_every_type_and_scaled_as_peft_does(
    tmp_path: Path, dtype: torch.dtype, use_rslora: bool, scale: float
) -> None:
    a, b = torch.randn(2, 5).to(dtype), torch.randn(4, 2).to(dtype)
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    save_file({name.format("A"): a, name.format("B"): b}, tmp_path / "adapter_model.safetensors")
    config = {"r": 2, "lora_alpha": 6, "target_modules": ["up_proj"], "use_rslora": use_rslora}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (update,) = updates.read_updates(tmp_path).values()
    np.testing.assert_allclose(update.b @ update.a, (scale * b.double() @ a.double()).numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_norms_of_the_base_model_are_read_in_blocks(
    tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "BLOCK_BYTES", 64)
    weights = {name: torch.randn(17, 9).to(dtype) for name in ("x.up.weight", "x.down.weight", "y.up.weight")}
    save_file({name: weights[name] for name in list(weights)[:2]}, tmp_path / "model-1.safetensors")
    save_file({"y.up.weight": weights["y.up.weight"], "x.up.bias": torch.ones(3)}, tmp_path / "model-2.safetensors")
    norms = updates.base_norms(tmp_path, {"x.up", "y.up", "z.up"})
    assert norms == {
        module: pytest.approx(float(weights[f"{module}.weight"].double().norm())) for module in ("x.up", "y.up")
    }


def test_weights_of_other_types_have_no_norm(tmp_path: Path) -> None:
    save_file({"x.up.weight": torch.ones(3, 3, dtype=torch.int8)}, tmp_path / "model.safetensors")
    assert updates.base_norms(tmp_path, {"x.up"}) == {}
