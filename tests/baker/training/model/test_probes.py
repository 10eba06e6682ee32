"""What a model can do is tried on a few tokens."""

import pytest
import torch
from torch import nn
from transformers import MistralConfig, MistralForCausalLM

from baker.errors import TrainingError
from baker.training.data.batches import make_batch
from baker.training.model.attention import PACKED
from baker.training.model.probes import is_head_plain, switch_to_packed, vocabulary_of
from baker.training.model.student import Student
from tests.baker.tiny import VOCABULARY, make_model, make_trajectories
from tests.baker.training.model.models import ScaledLlama


def test_damaged_weights_are_an_error() -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(TrainingError, match="not finite"):
        is_head_plain(model)


def test_a_plain_head_is_one_without_bias_scale_or_cap() -> None:
    model = make_model()
    assert is_head_plain(model) and vocabulary_of(model) == VOCABULARY
    model.__class__ = ScaledLlama
    assert not is_head_plain(model)
    biased = make_model(tie_word_embeddings=False)
    biased.lm_head = nn.Linear(32, VOCABULARY, bias=True)
    assert not is_head_plain(biased)


def test_a_model_that_ignores_the_packing_keeps_padded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda packing=None, **arguments: forward(**arguments))
    assert not switch_to_packed(model) and model.config._attn_implementation == "sdpa"


def test_a_model_with_a_window_keeps_padded_rows() -> None:
    settings = make_model().config.to_dict() | {"sliding_window": 8, "layer_types": None}
    for name in ("model_type", "architectures", "transformers_version", "layer_types", "rope_parameters"):
        settings.pop(name, None)
    model = MistralForCausalLM(MistralConfig(**settings)).eval().requires_grad_(False)
    student = Student(model)
    assert not student.is_packed and model.config._attn_implementation == "sdpa"
    assert student.compare(make_batch(make_trajectories(2))).nats > 0


def test_eager_attention_is_kept() -> None:
    model = make_model()
    model.set_attn_implementation("eager")
    assert not Student(model).is_packed and model.config._attn_implementation == "eager"
    assert Student(make_model()).model.config._attn_implementation == PACKED
