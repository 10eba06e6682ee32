"""Training on weights in the engine's layout, here in this process. With vLLM: tests/gateway/engine/worker; on a GPU:
tests/behaviour/test_gpu.py."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from baker.errors import NotLentError
from baker.training.model.base import SDPA, from_files
from baker.training.model.engine_weights import Lent, from_engine, open_lent
from tests.baker.tiny import make_model, save_model

FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
QKV = "model.layers.0.self_attn.qkv_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


def engine_weights() -> dict[str, Tensor]:
    """The tiny model's weights as vLLM has them: layers fused, and the table of tokens padded."""
    weights = {name: weight.data for name, weight in make_model().to(torch.bfloat16).named_parameters()}
    for layer in ("model.layers.0", "model.layers.1"):
        for block, fused in (("self_attn", "qkv_proj"), ("mlp", "gate_up_proj")):
            parts = [weights.pop(f"{layer}.{block}.{part}.weight") for part in FUSED[fused]]
            weights[f"{layer}.{block}.{fused}.weight"] = torch.cat(parts)
    table = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = torch.cat([table, table.new_zeros(3, table.shape[1])])
    return weights


def test_the_model_computes_on_views_of_the_engine_s_weights(folder: Path) -> None:
    weights = engine_weights()
    model = from_engine(Lent(weights, FUSED), folder, torch.bfloat16, SDPA)
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        expected = from_files(folder, torch.bfloat16, SDPA)(input_ids=ids).logits
        assert torch.equal(model(input_ids=ids).logits, expected)
    memory = {weight.untyped_storage().data_ptr() for weight in weights.values()}
    assert {weight.untyped_storage().data_ptr() for weight in model.parameters()} == memory


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({QKV: None}, r"it has no model\.layers\.0\.self_attn\.[qkv]_proj\.weight"),
        ({QKV: torch.zeros(63, 32)}, "qkv_proj has 63 rows, not 64"),
        ({"model.norm.weight": torch.zeros(32, dtype=torch.bfloat16)}, r"model\.norm\.weight is not that of"),
        ({"model.norm.weight": torch.ones(32)}, r"model\.norm\.weight is not that of .* in torch.bfloat16"),
    ],
)
def test_other_weights_are_refused_by_name(folder: Path, change: dict[str, Tensor | None], complaint: str) -> None:
    weights = {name: weight for name, weight in (engine_weights() | change).items() if weight is not None}
    with pytest.raises(NotLentError, match=complaint):
        from_engine(Lent(weights, FUSED), folder, torch.bfloat16, SDPA)


def test_handles_are_a_pickle_of_both_parts(tmp_path: Path) -> None:
    file = tmp_path / "handles"
    file.write_bytes(pickle.dumps(({"a": torch.ones(2)}, FUSED)))
    weights, fused = open_lent(file)
    assert torch.equal(weights["a"], torch.ones(2)) and fused == FUSED
    file.write_bytes(b"\x80\x05].")
    with pytest.raises(NotLentError, match="its memory can't be opened"):
        open_lent(file)
