import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter, content_hash, read_adapter_config
from baker.errors import AdapterError
from baker.storage.files import write_json

Q = "base_model.model.model.layers.0.self_attn.q_proj"


def write(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    known = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "peft_type": "LORA", "something_new": 1}
    write_json(folder / ADAPTER_CONFIG, known | config)
    save_file(good() if tensors is None else tensors, folder / ADAPTER_WEIGHTS)
    return folder


def good(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {
        f"{Q}.lora_A.weight": torch.full((2, 4), -3.5).to(dtype),
        f"{Q}.lora_B.weight": torch.zeros(6, 2, dtype=dtype),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_valid_adapter_of_any_float_type_passes(tmp_path: Path, dtype: torch.dtype) -> None:
    check_adapter(write(tmp_path, good(dtype)), max_rank=2)
    assert read_adapter_config(tmp_path).scale_of(Q) == 2.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, dtype: torch.dtype, value: float) -> None:
    tensors = good(dtype)
    tensors[f"{Q}.lora_B.weight"][5, 1] = value
    with pytest.raises(AdapterError, match=r"lora_B\.weight' contains values that are not finite"):
        check_adapter(write(tmp_path, tensors), max_rank=2)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"r": 64}, "rank 64 is above the engine's maximum of 8"),
        ({"r": 0}, "r must be at least 1"),
        ({"r": 4}, "but r is 4"),
        ({"r": "many"}, "not a LoRA configuration"),
        ({"peft_type": "IA3"}, "peft_type must be LORA"),
        ({"bias": "all"}, "bias must be none"),
        ({"use_dora": True}, "use_dora"),
        ({"use_qalora": True}, "use_qalora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4' changes the base model's own"),
        ({"modules_to_save": ["score"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "but r is 4"),
        ({"rank_pattern": {"k_proj": 64}}, "rank 64 is above"),
        ({"rank_pattern": {"(": 2}}, "not a regular expression"),
        ({"rank_pattern": {"(?i)q_proj": 2}}, "not a regular expression"),
        ({"alpha_pattern": {"(" * 900: 2}}, "not a regular expression"),
        ({"alpha_pattern": {"x{99999999999}": 2}}, "not a regular expression"),
        ({"rank_pattern": {"a" * 1001: 2}}, "a pattern has 1001 characters, at most 1000"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ({"target_modules": "embed_tokens"}, "embed_tokens"),
    ],
)
def test_a_configuration_that_is_not_served_is_refused(tmp_path: Path, config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AdapterError, match=complaint):
        check_adapter(write(tmp_path, **config), max_rank=8)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({}, "contains no tensors"),
        ({f"{Q}.lora_A.weight": torch.ones(2, 4)}, "has only lora_A"),
        ({f"{Q}.lora_A.weight": torch.ones(2, 4), f"{Q}.lora_B.weight": torch.ones(6, 3)}, "but r is 2"),
        ({f"{Q}.lora_A.weight": torch.ones(8), f"{Q}.lora_B.weight": torch.ones(6, 2)}, "but r is 2"),
        ({f"{Q}.lora_A.weight": torch.ones(2, 4).int(), f"{Q}.lora_B.weight": torch.ones(6, 2)}, "has type I32"),
        ({f"{Q}.weight": torch.ones(2, 4)}, "not part of a LoRA adapter"),
        (
            {"base_model.model.lm_head.lora_A.weight": torch.ones(2, 4)},
            "adapts lm_head, which the engine does not serve correctly",
        ),
        (
            {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 4)},
            "not part of a LoRA adapter",
        ),
    ],
)
def test_invalid_tensors_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], complaint: str) -> None:
    with pytest.raises(AdapterError, match=complaint):
        check_adapter(write(tmp_path, tensors), max_rank=2)


def test_weights_cut_at_any_byte_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path) / ADAPTER_WEIGHTS
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(AdapterError, match=ADAPTER_WEIGHTS):
            check_adapter(tmp_path, max_rank=2)


def test_a_missing_file_or_one_of_another_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json can't be read: No such file"):
        check_adapter(tmp_path, max_rank=2)
    write(tmp_path)
    (tmp_path / ADAPTER_WEIGHTS).write_bytes(b"\xff" * 100)
    with pytest.raises(AdapterError, match="not a complete safetensors file"):
        check_adapter(tmp_path, max_rank=2)
    (tmp_path / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors is missing"):
        check_adapter(tmp_path, max_rank=2)
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps([1]))
    with pytest.raises(AdapterError, match="not a LoRA configuration"):
        read_adapter_config(tmp_path)


def test_patterns_that_would_hang_the_engine_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baker.adapters.files.PATTERN_CPU_SECONDS", 1)
    with pytest.raises(AdapterError, match="alpha_pattern: the search with the pattern took too much time"):
        check_adapter(write(tmp_path, alpha_pattern={"((.|[^q])*)*x": 2}), max_rank=8)


def test_rank_and_alpha_patterns_are_applied_as_peft_does(tmp_path: Path) -> None:
    patterns = {"rank_pattern": {"q_proj": 2, "0.mlp.up_proj": 8}, "alpha_pattern": {"layers.0.self_attn.q_proj": 6}}
    config = read_adapter_config(write(tmp_path, r=4, lora_alpha=4, **patterns))
    ranks_and_scales = [
        (config.rank_of(name), config.scale_of(name))
        for name in ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.up_proj")
    ]
    assert ranks_and_scales == [(2, 3.0), (2, 2.0), (8, 0.5)]
    assert read_adapter_config(write(tmp_path, r=4, lora_alpha=6, use_rslora=True)).scale_of("any") == 3.0


def test_an_adapter_must_fit_the_base_models_layers(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", write(tmp_path / "adapter")
    for shape, complaint in (((6, 4), None), ((6, 5), r"shape \[6, 4\], the base model's has \[6, 5\]")):
        base = tmp_path / f"base{shape[1]}"
        base.mkdir()
        # A type that adapters can't have.
        save_file(
            {"model.layers.0.self_attn.q_proj.weight": torch.ones(shape, dtype=torch.int8)}, base / "m.safetensors"
        )
        if complaint is None:
            check_adapter(adapter, max_rank=2, base=base)
        else:
            with pytest.raises(AdapterError, match=complaint):
                check_adapter(adapter, max_rank=2, base=base)
    deeper = {name.replace("layers.0", "layers.9"): tensor for name, tensor in good().items()}
    with pytest.raises(AdapterError, match="no such layer"):
        check_adapter(write(tmp_path / "deeper", deeper), max_rank=2, base=base)
    with pytest.raises(AdapterError, match=r"adapts model\.layers\.9.*no such layer"):
        check_adapter(write(tmp_path / "both", {**good(), **deeper}), max_rank=2, base=tmp_path / "base4")
    other = {name.replace("q_proj", "query_key_value"): tensor for name, tensor in good().items()}
    check_adapter(write(tmp_path / "other", other), max_rank=2, base=base)


def test_the_content_hash_covers_both_files_and_where_one_ends(tmp_path: Path) -> None:
    hashes = set()
    for config, weights in ((b"ab", b"c"), (b"a", b"bc"), (b"ab", b"d"), (b"ab", b"c")):
        (tmp_path / ADAPTER_CONFIG).write_bytes(config)
        (tmp_path / ADAPTER_WEIGHTS).write_bytes(weights)
        (tmp_path / "parity.json").write_bytes(os.urandom(4))
        hashes.add(content_hash(tmp_path))
    assert len(hashes) == 3
