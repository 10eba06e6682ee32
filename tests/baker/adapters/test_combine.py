"""Sums of adapters, against the big matrices that they stand for, against PEFT, and in the engine."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from baker.adapters.combine import Term, combine
from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter
from baker.adapters.updates import read_updates
from baker.errors import AdapterError
from tests.baker.adapters.dense import (
    MODULES,
    Dense,
    adapter,
    assert_same,
    dense_of,
    dense_sum,
    terms_of,
)

kinds = st.builds(
    dict,
    seed=st.integers(0, 2**31),
    ranks=st.builds(dict.fromkeys, st.lists(st.sampled_from(MODULES), min_size=1), st.integers(1, 5)),
    alpha=st.sampled_from([1.0, 8.0, 0.5]),
    use_rslora=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    size=st.sampled_from([1.0, 1e-3]),
)
coefficients = st.floats(-2, 2).filter(lambda value: abs(value) > 1e-3 and abs(value - 1) > 1e-3)


@settings(max_examples=30)
@given(st.lists(st.tuples(kinds, coefficients), min_size=1, max_size=3, unique_by=lambda term: term[0]["seed"]))
def test_the_sum_is_that_of_the_big_matrices_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, kinds_and_weights: list[tuple[dict[str, Any], float]]
) -> None:
    folder = tmp_path_factory.mktemp("sum")
    adapters = [adapter(folder / str(number), **kind) for number, (kind, _) in enumerate(kinds_and_weights)]
    weights = [coefficient for _, coefficient in kinds_and_weights]
    expected = dense_sum(adapters, weights)
    result = combine(terms_of(adapters, weights), folder / "forward", max_rank=64)
    check_adapter(folder / "forward", max_rank=result.rank)
    assert_same(dense_of(folder / "forward"), expected)
    assert result.rank <= result.full_rank <= 7
    assert result.energy_lost < 1e-11
    assert result.modules == len(expected)
    assert combine(terms_of(adapters, weights)[::-1], folder / "backward", max_rank=64).sha256 == result.sha256


def test_ranks_alphas_and_modules_may_differ_within_and_between_adapters(tmp_path: Path) -> None:
    up, down, other = MODULES
    adapters = [
        adapter(tmp_path / "a", 1, {up: 2, down: 4}, alphas={down: 3.0}, use_rslora=True),
        adapter(tmp_path / "b", 2, {up: 3, other: 1}, alpha=5.0, alphas={up: 16.0}),
        adapter(tmp_path / "c", 3, {down: 1}, dtype=torch.bfloat16),
    ]
    result = combine(terms_of(adapters, [0.5, 1.5, -1.0]), tmp_path / "sum", max_rank=64)
    assert_same(dense_of(tmp_path / "sum"), dense_sum(adapters, [0.5, 1.5, -1.0]))
    assert (result.rank, result.full_rank, result.modules) == (5, 5, 3)
    check_adapter(tmp_path / "sum", max_rank=5)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 8), st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_cut_is_the_best_of_its_rank_and_says_what_it_loses(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rank: int, dtype: torch.dtype
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    adapters = [
        adapter(folder / "a", seed, {"layers.0.up": 4, "layers.0.down": 4}, dtype=dtype),
        adapter(folder / "b", seed + 1, {"layers.0.up": 4}, alpha=3.0, dtype=dtype),
    ]
    exact = dense_sum(adapters, [1.0, -0.7])
    cut: Dense = {}
    lost = total = 0.0
    for module, update in exact.items():
        u, values, v = np.linalg.svd(update, full_matrices=False)
        cut[module] = (u[:, :rank] * values[:rank]) @ v[:rank]
        lost, total = lost + (values[rank:] ** 2).sum(), total + (values**2).sum()
    result = combine(terms_of(adapters, [1.0, -0.7]), folder / "c", max_rank=rank)
    assert_same(dense_of(folder / "c"), cut)
    assert result.energy_lost == pytest.approx(lost / total, abs=1e-12)
    assert result.full_rank == 7
    assert result.rank == min(rank, 7)


def test_the_smallest_rank_that_keeps_the_energy_is_chosen(tmp_path: Path) -> None:
    adapters = [adapter(tmp_path / str(seed), seed, dict.fromkeys(MODULES, 3)) for seed in (1, 2)]
    terms = terms_of(adapters, [1.0, 1.0])
    lost = [combine(terms, tmp_path / f"r{rank}", max_rank=rank).energy_lost for rank in range(1, 7)]
    assert lost == sorted(lost, reverse=True) and lost[-1] == 0
    for rank, share in enumerate(lost[:-1], start=1):
        assert combine(terms, tmp_path / f"enough{rank}", max_rank=64, energy=1 - share * 1.001).rank == rank
        assert combine(terms, tmp_path / f"more{rank}", max_rank=64, energy=1 - share * 0.999).rank == rank + 1
        assert combine(terms, tmp_path / f"both{rank}", max_rank=1, energy=1 - share).rank == 1


def test_what_is_left_of_one_adapter_is_a_copy_of_its_weights(tmp_path: Path) -> None:
    a = adapter(tmp_path / "a", 1, {"layers.0.up": 4, "layers.0.down": 2}, use_rslora=True, dtype=torch.bfloat16)
    b = adapter(tmp_path / "b", 2, dict.fromkeys(MODULES, 3))
    shutil.copytree(a.folder, tmp_path / "same as a")
    for number, terms in enumerate(
        [
            [Term(a.folder, 1.0)],
            [Term(b.folder, 0.0), Term(a.folder, 1.0)],
            [Term(a.folder, 0.5), Term(b.folder, 0.3), Term(tmp_path / "same as a", 0.5), Term(b.folder, -0.3)],
            [Term(b.folder, 0.1), Term(b.folder, 0.2), Term(a.folder, 1.0), Term(b.folder, -0.3)],
        ]
    ):
        result = combine(terms, tmp_path / str(number), max_rank=4)
        assert (tmp_path / str(number) / ADAPTER_WEIGHTS).read_bytes() == (a.folder / ADAPTER_WEIGHTS).read_bytes()
        assert (result.rank, result.full_rank, result.energy_lost, result.modules) == (4, 4, 0.0, 2)
        copied = {module: update.b @ update.a for module, update in read_updates(tmp_path / str(number)).items()}
        assert_same(copied, a.dense)
    assert combine([Term(a.folder, 1.0)], tmp_path / "cut", max_rank=3).rank == 3
    check_adapter(tmp_path / "cut", max_rank=3)


def test_a_shared_part_costs_no_rank(tmp_path: Path) -> None:
    """What a merge, a cherry-pick and a revert are made of: (O + x) - O is x."""
    origin = adapter(tmp_path / "origin", 1, dict.fromkeys(MODULES, 2))
    change = adapter(tmp_path / "change", 2, dict.fromkeys(MODULES, 1), size=0.1)
    combine(terms_of([origin, change], [1.0, 1.0]), tmp_path / "both", max_rank=64)
    terms = [Term(tmp_path / "both", 1.0), Term(origin.folder, -1.0)]
    result = combine(terms, tmp_path / "back", max_rank=64, energy=1 - 1e-8)
    assert (result.rank, result.full_rank) == (1, 1)
    assert_same(dense_of(tmp_path / "back"), change.dense, tolerance=1e-4)


def test_rows_that_a_module_does_not_need_change_nothing_and_can_be_trained(tmp_path: Path) -> None:
    wide = adapter(tmp_path / "a", 1, {"layers.0.up": 4})
    narrow = adapter(tmp_path / "b", 2, {"layers.0.down": 1})
    combine(terms_of([wide, narrow], [2.0, 2.0]), tmp_path / "sum", max_rank=8)
    tensors = load_file(tmp_path / "sum" / ADAPTER_WEIGHTS)
    a, b = (tensors[f"base_model.model.layers.0.down.lora_{side}.weight"] for side in "AB")
    assert a.shape == (4, 13) and b.shape == (7, 4)
    assert not b[:, 1:].any() and bool((a[1:].norm(dim=1) > 0.1).all())
    assert float(a[0].norm()) == pytest.approx(float(b[:, 0].norm()), rel=1e-5)
    assert_same(dense_of(tmp_path / "sum"), dense_sum([wide, narrow], [2.0, 2.0]))


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ([1.0, -1.0], "add up to 0"),
        ([0.0, 0.0], "add up to 0"),
        ([math.nan, 1.0], "must be finite, got nan"),
        ([math.inf, 1.0], "must be finite, got inf"),
        ([1e300, 1e307], "layers.0.down: weights times alpha and coefficient are too large"),
        ([1e37, 1e37], "layers.0.down: the sum is too large for float32"),
    ],
)
def test_sums_without_a_result_are_refused(tmp_path: Path, coefficients: list[float], message: str) -> None:
    a = adapter(tmp_path / "a", 1, dict.fromkeys(MODULES, 2))
    shutil.copytree(a.folder, tmp_path / "same")
    with pytest.raises(AdapterError, match=message):
        combine(
            [Term(a.folder, coefficients[0]), Term(tmp_path / "same", coefficients[1])], tmp_path / "sum", max_rank=8
        )


def test_adapters_that_cancel_out_or_do_nothing_are_refused(tmp_path: Path) -> None:
    a = adapter(tmp_path / "a", 1, dict.fromkeys(MODULES, 2))
    negative = adapter(tmp_path / "b", 1, dict.fromkeys(MODULES, 2), alpha=-8.0)
    nothing = adapter(tmp_path / "c", 2, dict.fromkeys(MODULES, 2), size=0.0)
    for adapters in ([a, negative], [nothing]):
        with pytest.raises(AdapterError, match="cancel each other out, or change nothing"):
            combine(terms_of(adapters, [1.0] * len(adapters)), tmp_path / "sum", max_rank=8)


def test_broken_adapters_are_refused_by_name(tmp_path: Path) -> None:
    good = adapter(tmp_path / "good", 1, {"layers.0.up": 2})
    other = adapter(tmp_path / "shape", 2, {"layers.0.up": 2})
    tensors = load_file(other.folder / ADAPTER_WEIGHTS)
    bad = {
        "infinite": ({name: tensor / 0 for name, tensor in tensors.items()}, "infinite.*not finite"),
        "short": ({name: tensor[:, :1].clone() for name, tensor in tensors.items()}, "short.*but r is 2"),
        "other": ({name: torch.ones(2, 2) for name in tensors}, r"layers.0.up has shape .* and \(2, 2\) in .*other"),
        "half": (dict(list(tensors.items())[:1]), "half.*has only lora_"),
    }
    for name, (weights, message) in bad.items():
        shutil.copytree(other.folder, tmp_path / name)
        save_file(weights, tmp_path / name / ADAPTER_WEIGHTS)
        with pytest.raises(AdapterError, match=message):
            combine([Term(good.folder, 1.0), Term(tmp_path / name, 1.0)], tmp_path / "sum", max_rank=8)
    with pytest.raises(AdapterError, match=r"missing.*can't be read"):
        combine([Term(good.folder, 1.0), Term(tmp_path / "missing", 1.0)], tmp_path / "sum", max_rank=8)
    with pytest.raises(ValueError, match="max_rank must be at least 1"):
        combine([Term(good.folder, 1.0)], tmp_path / "sum", max_rank=0)


def test_the_base_model_is_that_of_the_terms_or_the_given_one(tmp_path: Path) -> None:
    adapters = [adapter(tmp_path / str(seed), seed, {"layers.0.up": 1}) for seed in (1, 2)]
    for number, weights in enumerate([[1.0, 0.0], [1.0, 1.0]]):  # a copy, and a sum
        for given_name, expected in ((None, "base"), ("served", "served")):
            folder = tmp_path / f"{number} {given_name}"
            combine(terms_of(adapters, weights), folder, max_rank=8, base_model_name=given_name)
            assert json.loads((folder / ADAPTER_CONFIG).read_text())["base_model_name_or_path"] == expected


def test_peft_computes_the_same_from_the_sum_as_from_its_own_concatenation(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    first = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "up_proj"])
    model: Any = PeftModel(LlamaForCausalLM(config), first)
    model.add_adapter("second", LoraConfig(r=3, lora_alpha=2, target_modules=["up_proj", "down_proj"], use_rslora=True))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path)
    model.add_weighted_adapter(["default", "second"], [0.7, 0.4], "both", combination_type="cat")
    terms = [Term(tmp_path, 0.7), Term(tmp_path / "second", 0.4)]
    result = combine(terms, tmp_path / "sum", max_rank=16)
    assert (result.rank, result.modules) == (7, 6)
    model.load_adapter(tmp_path / "sum", "sum")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        logits = {}
        for name in ("both", "sum", "default"):
            model.set_adapter(name)
            logits[name] = model.eval()(ids).logits
    torch.testing.assert_close(logits["sum"], logits["both"], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits["sum"], logits["default"], atol=1e-2)
