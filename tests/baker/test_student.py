from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from baker.batches import make_batch
from baker.errors import StageError, TrainingError
from baker.losses import forward_kl
from baker.student import Student, load_base
from tests.baker.tiny import VOCABULARY, make_model, make_trajectories, save_model

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
    assert float(student.kl(batch)) == pytest.approx(expected, rel=1e-4)
    assert student.mean_kl([batch, batch]) == pytest.approx(expected / len(batch.response_ids_N), rel=1e-4)
    logprobs = logits.log_softmax(-1).gather(-1, batch.response_ids_N[:, None]).squeeze(-1)
    assert student.response_logprobs(batch) == pytest.approx(logprobs.tolist(), abs=1e-4)


def test_the_base_is_frozen_and_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    model = load_base(save_model(tmp_path / "model"), torch.device("cpu"))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert Student(model).vocabulary == VOCABULARY
    with pytest.raises(StageError, match="nothing can't be loaded"):
        load_base(tmp_path / "nothing", torch.device("cpu"))


def test_damaged_weights_are_noticed() -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(TrainingError, match="not finite"):
        Student(model)
