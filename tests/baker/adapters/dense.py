"""Small random adapters, and the big matrices that they stand for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from baker.adapters.combine import Term
from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

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
    """A random adapter of modules with the given ranks, and with `alphas` where they differ from `alpha`."""
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
    highest = max(ranks.values())
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "base",
        "r": highest,
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {module: rank for module, rank in ranks.items() if rank != highest},
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
