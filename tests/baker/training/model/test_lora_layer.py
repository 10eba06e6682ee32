import pytest
import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor

from baker.training.model import lora
from baker.training.model.lora_layer import FastLoraLinear
from tests.baker.tiny import VOCABULARY, make_model
from tests.baker.training.model.test_lora import IDS, LINEAR, attach, logits, stir


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fast_layer_computes_what_peft_s_does(
    dtype: torch.dtype, has_bias: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_model(attention_bias=has_bias, mlp_bias=has_bias)
    for name, parameter in base.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter)
    model = lora.attach(base.to(dtype), rank=4, alpha=6.0, dropout=dropout).model
    stir(model)
    model.train()

    def outcome() -> tuple[Tensor, list[Tensor]]:
        model.zero_grad()
        torch.manual_seed(2)
        result = model(input_ids=IDS).logits.float()
        result.log_softmax(-1)[..., 5].sum().backward()
        return result.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    fast, fast_gradients = outcome()
    monkeypatch.setattr(FastLoraLinear, "forward", PeftLinear.forward)
    plain, plain_gradients = outcome()
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.1}
    torch.testing.assert_close(fast, plain, **tolerance)
    assert len(fast_gradients) == len(plain_gradients) == 2 * 2 * len(LINEAR)
    for ours, theirs in zip(fast_gradients, plain_gradients, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= (1e-4 if dtype == torch.float32 else 0.05) * theirs.norm() + 1e-6


def test_dropout_and_a_disabled_adapter_take_effect() -> None:
    model = attach(dropout=0.5).model
    stir(model)
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(logits(model), logits(model))
    model.eval()
    assert torch.equal(logits(model), logits(model))
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(make_model()))
    assert logits(model).shape == (2, 6, VOCABULARY)


def test_as_parent_the_layer_computes_with_the_parent_s_weights() -> None:
    model = attach().model
    (layer, *_) = (module for module in model.modules() if isinstance(module, FastLoraLinear))
    stir(model)
    x = torch.randn(3, layer.in_features)
    layer.is_parent = True
    with torch.no_grad():
        assert torch.equal(layer(x), layer.get_base_layer()(x)), "without a parent adapter, the base"
        layer.parent = layer.weights[0].clone(), layer.weights[1].clone()
        before = layer(x)
        stir(model, seed=2)
        assert torch.equal(layer(x), before)
        layer.is_parent = False
        assert not torch.allclose(layer(x), before)
