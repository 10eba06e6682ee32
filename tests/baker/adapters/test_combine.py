"""Sums of adapters, against the big matrices that they stand for, against PEFT, and in the engine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from baker.adapters.combine import Term, combine
from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter

SHAPES = {"layers.0.up": (13, 7), "layers.0.down": (7, 13), "layers.1.up": (13, 7)}
MODULES = list(SHAPES)
Dense = dict[str, NDArray[np.float64]]


class Adapter(NamedTuple):
    folder: Path
    dense: Dense
    """What it adds to each module, computed here from its tensors."""


def adapter(
    folder: Path,
    seed: int,
    ranks: Mapping[str, int],
    *,
    alpha: float = 8.0,
    alphas: Mapping[str, float] | None = None,
    use_rslora: bool = False,
    dtype: torch.dtype = torch.float32,
    size: float = 1.0,
) -> Adapter:
    """A random adapter of modules with the given ranks, and alphas where they differ from `alpha`."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    dense: Dense = {}
    for module, rank in ranks.items():
        out, width = SHAPES[module]
        a = torch.randn(rank, width, generator=generator).to(dtype)
        b = (torch.randn(out, rank, generator=generator) * size).to(dtype)
        tensors |= {f"base_model.model.{module}.lora_{side}.weight": x for side, x in (("A", a), ("B", b))}
        scale = (alphas or {}).get(module, alpha) / (rank**0.5 if use_rslora else rank)
        dense[module] = (scale * b.double() @ a.double()).numpy()
    folder.mkdir(parents=True)
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    config = {
        "peft_type": "LORA",
        "r": max(ranks.values()),
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": dict(ranks),
        "alpha_pattern": dict(alphas or {}),
        "use_rslora": use_rslora,
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config))
    return Adapter(folder, dense)


def dense_sum(adapters: Sequence[Adapter], coefficients: Sequence[float]) -> Dense:
    total: Dense = {}
    for each, coefficient in zip(adapters, coefficients, strict=True):
        for module, update in each.dense.items():
            total[module] = total.get(module, np.zeros(SHAPES[module])) + coefficient * update
    return total


def dense_of(folder: Path) -> Dense:
    """What a file adds, read with safetensors, at scale 1."""
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    assert config["lora_alpha"] == config["r"] and not config.get("rank_pattern")
    modules = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors}
    return {
        module: (
            tensors[f"base_model.model.{module}.lora_B.weight"].double()
            @ tensors[f"base_model.model.{module}.lora_A.weight"].double()
        ).numpy()
        for module in modules
    }


def assert_same(actual: Dense, expected: Dense, tolerance: float = 2e-6) -> None:
    assert actual.keys() == expected.keys()
    size = max(np.linalg.norm(each) for each in expected.values())
    for module in expected:
        np.testing.assert_allclose(actual[module], expected[module], atol=tolerance * size, rtol=0)


def terms_of(adapters: Sequence[Adapter], coefficients: Sequence[float]) -> list[Term]:
    return [Term(each.folder, coefficient) for each, coefficient in zip(adapters, coefficients, strict=True)]


ranks = st.dictionaries(st.sampled_from(MODULES), st.integers(1, 5), min_size=1)
kinds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "ranks": ranks,
        "alpha": st.sampled_from([1.0, 8.0, 0.5]),
        "alphas": st.dictionaries(st.sampled_from(MODULES), st.sampled_from([2.0, 16.0])),
        "use_rslora": st.booleans(),
        "dtype": st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
        "size": st.sampled_from([1.0, 1e-3]),
    }
)
coefficients = st.floats(-2, 2).filter(lambda value: abs(value) > 1e-3)


@settings(max_examples=60)
@given(st.lists(st.tuples(kinds, coefficients), min_size=1, max_size=3))
def test_the_sum_is_that_of_the_big_matrices_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, given_terms: list[tuple[dict[str, Any], float]]
) -> None:
    folder = tmp_path_factory.mktemp("sum")
    adapters = [adapter(folder / str(i), **kind) for i, (kind, _) in enumerate(given_terms)]
    weights = [coefficient for _, coefficient in given_terms]
    expected = dense_sum(adapters, weights)
    if not any(np.abs(update).max() > 1e-5 for update in expected.values()):
        return
    result = combine(terms_of(adapters, weights), folder / "forward", max_rank=64)
    check_adapter(folder / "forward", max_rank=result.rank)
    assert result.energy_lost <= 1e-11
    assert result.modules == len(expected)
    if not (len(adapters) == 1 and weights == [1.0]):
        assert_same(dense_of(folder / "forward"), expected)
        assert result.rank <= result.full_rank <= 7
    backward = combine(terms_of(adapters, weights)[::-1], folder / "backward", max_rank=64)
    assert backward.sha256 == result.sha256


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 8), st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_cut_is_the_best_of_its_rank_and_says_what_it_loses(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rank: int, dtype: torch.dtype
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    adapters = [
        adapter(folder / "a", seed, {"layers.0.up": 4, "layers.0.down": 3}, dtype=dtype),
        adapter(folder / "b", seed + 1, {"layers.0.up": 4}, alpha=3.0, dtype=dtype),
    ]
    exact = dense_sum(adapters, [1.0, -0.7])
    cut: Dense = {}
    lost = total = 0.0
    for module, update in exact.items():
        u, values, v = np.linalg.svd(update)
        cut[module] = (u[:, :rank] * values[:rank]) @ v[: min(rank, len(values))] if rank < len(values) else update
        lost, total = lost + (values[rank:] ** 2).sum(), total + (values**2).sum()
    result = combine(terms_of(adapters, [1.0, -0.7]), folder / "c", max_rank=rank)
    assert_same(dense_of(folder / "c"), cut)
    assert result.energy_lost == pytest.approx(lost / total, abs=1e-12)
    assert result.full_rank == 7
    assert result.rank == min(rank, 7)
