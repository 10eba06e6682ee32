from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from baker.errors import StageError, TrainingError
from baker.training.data.batches import make_batch
from baker.training.model.base import _FLASH_ATTENTIONS, _load_with, from_files, load_base, pick_dtype
from baker.training.model.divergences import Measure
from baker.training.model.losses import divergence, forward_kl
from baker.training.model.student import Student, total
from tests.baker.tiny import VOCABULARY, make_model, make_trajectories, save_model

CPU = torch.device("cpu")
ROWS = make_trajectories(5)


class ScaledLlama(LlamaForCausalLM):
    """Its logits are no plain product of hidden states and head."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = torch.tanh(output.logits / 3.0) * 3.0
        return output


def one_by_one(model: LlamaForCausalLM) -> Tensor:
    """The response's logits of each row alone, without padding, batches or positions."""
    found = []
    with torch.no_grad():
        for row in ROWS:
            ids = torch.tensor([[*row.student_ids.tolist(), *row.response_ids.tolist()]])
            found.append(model(input_ids=ids).logits[0, len(row.student_ids) - 1 : -1])
    return torch.cat(found)


@pytest.mark.parametrize("kind", [LlamaForCausalLM, ScaledLlama])
def test_a_padded_batch_gives_what_each_row_gives_alone(kind: type[LlamaForCausalLM]) -> None:
    model = make_model().requires_grad_(False)
    model.__class__ = kind
    student, batch, logits = Student(model), make_batch(ROWS), one_by_one(model)
    expected = float(forward_kl(logits, batch.top_ids_NK, batch.top_logprobs_NK).sum())
    assert float(student.divergence(batch)) == pytest.approx(expected, rel=1e-4)
    compared = total([student.compare(batch), student.compare(batch)])
    assert compared.nats == pytest.approx(2 * expected, rel=1e-4)
    assert compared.tokens == 2 * len(batch.response_ids_N)
    greedy = [int(row.argmax()) for row in logits]
    agreed = sum(token == int(ids[0]) for token, ids in zip(greedy, batch.top_ids_NK, strict=True))
    assert 0 < agreed < len(greedy) and compared.agreed == 2 * agreed
    other = Measure(beta=0.5, temperature=2.0)
    expected = float(divergence(logits, batch.top_ids_NK, batch.top_logprobs_NK, other).sum())
    assert float(student.divergence(batch, other)) == pytest.approx(expected, rel=1e-4)
    logprobs = logits.log_softmax(-1).gather(-1, batch.response_ids_N[:, None]).squeeze(-1)
    assert student.response_logprobs(batch) == pytest.approx(logprobs.tolist(), abs=1e-4)


def test_the_base_is_frozen_and_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    model = load_base(save_model(tmp_path / "model"), CPU).model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert Student(model).vocabulary == VOCABULARY
    with pytest.raises(StageError, match="nothing can't be loaded"):
        load_base(tmp_path / "nothing", CPU)


@pytest.mark.parametrize(
    ("asked", "found", "warning"),
    [
        ("bfloat16", torch.bfloat16, None),
        ("float32", torch.float32, None),
        ("float16", torch.float32, "model.dtype is float16"),
        (None, pick_dtype(CPU), None),
    ],
)
def test_the_base_computes_in_the_type_that_was_asked_for(
    tmp_path: Path, asked: str | None, found: torch.dtype, warning: str | None
) -> None:
    base = load_base(save_model(tmp_path / "model"), CPU, dtype=asked)
    assert {parameter.dtype for parameter in base.model.parameters()} == {found}
    assert len(base.warnings) == (warning is not None) and all(warning in text for text in base.warnings if warning)


def test_eager_attention_computes_what_sdpa_does(tmp_path: Path) -> None:
    """Without an attention mask too: rows are padded on the right, and attention is causal either way."""
    folder, batch, found = save_model(tmp_path / "model"), make_batch(ROWS), []
    for attention in ("sdpa", "eager"):
        base = load_base(folder, CPU, dtype="float32", attention=attention)
        assert base.model.config._attn_implementation == attention and base.warnings == []
        found.append(float(Student(base.model).divergence(batch)))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3", "flex_attention", "org/kernel"])
def test_an_attention_that_can_t_be_loaded_is_replaced_with_a_warning(tmp_path: Path, attention: str) -> None:
    base = load_base(save_model(tmp_path / "model"), CPU, attention=attention)
    assert base.model.config._attn_implementation == "sdpa"
    assert base.warnings == [f"model.attn_implementation {attention!r} can't be loaded here: sdpa is used"]


def test_an_attention_that_the_model_or_the_machine_lacks_after_all_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_FLASH_ATTENTIONS, "flash_attention_2", lambda: True)
    folder = save_model(tmp_path / "model")
    assert _load_with("flash_attention_2", folder, torch.device("cuda"), torch.bfloat16, from_files) is None


def test_damaged_weights_are_noticed() -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(TrainingError, match="not finite"):
        Student(model)
