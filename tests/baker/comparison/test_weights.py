"""The distance of two versions' weights, against dense matrices."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from baker.comparison.weights import compare
from baker.types import Checkpoint

MODULES = {"layers.0.up": (6, 5), "layers.0.down": (5, 6)}


def make_base(folder: Path) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    weights = {f"{module}.weight": torch.randn(shape) for module, shape in MODULES.items()}
    save_file(weights, folder / "model.safetensors")
    return {module: weights[f"{module}.weight"].double().numpy() for module in MODULES}


def make_version(
    folder: Path, seed: int, modules: list[str], rank: int = 2
) -> tuple[Checkpoint, dict[str, np.ndarray]]:
    """A checkpoint, and its update of each module as a dense matrix."""
    torch.manual_seed(seed)
    folder.mkdir()
    tensors, dense = {}, {}
    for module in modules:
        out, width = MODULES[module]
        a, b = torch.randn(rank, width), torch.randn(out, rank)
        tensors |= {f"base_model.model.{module}.lora_A.weight": a, f"base_model.model.{module}.lora_B.weight": b}
        dense[module] = (3 / rank * b.double() @ a.double()).numpy()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"r": rank, "lora_alpha": 3, "target_modules": sorted({module[9:] for module in modules})}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return Checkpoint("admin", "repo", folder.name, 1, folder, "0" * 64, 0, 1), dense


def flat(dense: dict[str, np.ndarray]) -> np.ndarray:
    """All modules in one vector; those without an update are zero."""
    return np.concatenate([dense.get(module, np.zeros(shape)).ravel() for module, shape in MODULES.items()])


def test_two_versions_of_different_modules_and_ranks(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    a, dense_a = make_version(tmp_path / "a", 1, ["layers.0.up"])
    b, dense_b = make_version(tmp_path / "b", 2, list(MODULES), rank=3)
    diff = compare(a, b, tmp_path)
    distance = np.linalg.norm(flat(dense_b) - flat(dense_a))
    assert diff.modules == 2
    assert diff.norm == pytest.approx(distance)
    assert diff.relative_norm == pytest.approx(distance / np.linalg.norm(flat(base)))
    assert (diff.rank_a, diff.rank_b) == (2, 3)
    cosine = flat(dense_a) @ flat(dense_b) / np.linalg.norm(flat(dense_a)) / np.linalg.norm(flat(dense_b))
    assert diff.cosine == pytest.approx(cosine)
    relative = {
        module: np.linalg.norm(dense_b[module] - dense_a.get(module, 0.0)) / np.linalg.norm(base[module])
        for module in MODULES
    }
    assert {each.module: each.relative_norm for each in diff.largest} == pytest.approx(relative)
    assert diff.largest[0].module == max(relative, key=lambda module: relative[module])


def test_a_version_and_the_base_model(tmp_path: Path) -> None:
    make_base(tmp_path)
    b, dense = make_version(tmp_path / "b", 2, list(MODULES))
    for diff, ranks in ((compare(None, b, tmp_path), (0, 2)), (compare(b, None, tmp_path), (2, 0))):
        assert diff.norm == pytest.approx(np.linalg.norm(flat(dense)))
        assert (diff.rank_a, diff.rank_b, diff.cosine) == (*ranks, None)


def test_a_version_does_not_differ_from_itself(tmp_path: Path) -> None:
    make_base(tmp_path)
    a, _ = make_version(tmp_path / "a", 1, list(MODULES))
    diff = compare(a, a, tmp_path)
    assert (diff.modules, diff.norm, diff.relative_norm, diff.largest) == (0, 0.0, 0.0, [])
    assert diff.cosine == pytest.approx(1.0)
    nothing = compare(None, None, tmp_path)
    assert (nothing.modules, nothing.norm, nothing.cosine) == (0, 0.0, None)


def test_without_the_base_models_weights_only_the_relative_norm_is_missing(tmp_path: Path) -> None:
    a, dense = make_version(tmp_path / "a", 1, list(MODULES))
    diff = compare(None, a, tmp_path)
    assert diff.relative_norm is None
    assert diff.norm == pytest.approx(np.linalg.norm(flat(dense)))
    assert [each.relative_norm for each in diff.largest] == [None, None]
