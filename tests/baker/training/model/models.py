"""Models that differ from a plain Llama, and adapters with an effect."""

from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM


class ScaledLlama(LlamaForCausalLM):
    """A Llama whose logits are capped, so that they are not the product of hidden states and head."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = torch.tanh(output.logits / 3.0) * 3.0
        return output


def shaken(model: Any) -> list[Tensor]:
    """Gives the adapter random weights, so that it has an effect. Returns: them."""
    torch.manual_seed(1)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.normal_(std=0.1)
    return weights


def gradient_of(loss: Tensor, weights: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])
