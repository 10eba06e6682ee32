"""Packed attention against dense attention under the mask of the tree. Flash attention: tests/behaviour/test_gpu.py."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from baker.training.data.packing import Packing, pack
from baker.training.model import attention
from baker.training.model.attention import packed_attention, packed_attention_forward, packing_argument
from tests.baker.training.data.test_packing import PREFIX, seen


def dense(query: Tensor, key: Tensor, value: Tensor, line: Packing) -> Tensor:
    mask = torch.zeros(query.shape[1], query.shape[1], dtype=torch.bool)
    for place, visible in enumerate(seen(line)):
        mask[place, visible] = True
    result = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=True)
    return result.transpose(0, 1)


@pytest.mark.parametrize("kept", [0, 1024])
@pytest.mark.parametrize("block", [4, 256])
def test_the_kernel_is_attention_under_the_tree_s_mask(block: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    monkeypatch.setattr(attention, "KEPT_KEYS", kept)
    torch.manual_seed(0)
    rows = [np.array([*PREFIX, *tail]) for tail in ([1] * 9, [2] * 3, [1] * 8 + [3])]
    line = pack(rows, [1] * 3)
    size = len(line.source_T)
    inputs = [torch.randn(heads, size, 8, dtype=torch.float64) for heads in (6, 2, 2)]
    weights = torch.randn(size, 6, 8, dtype=torch.float64)
    outcomes = []
    for compute in (lambda *x: packed_attention(*x, line, 0.3), lambda *x: dense(*x, line)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        result = compute(*leaves)
        (result * weights).sum().backward()
        outcomes.append([result, *(leaf.grad for leaf in leaves)])
    for mine, expected in zip(*outcomes, strict=True):
        # Gradients of keys and values are summed in float32.
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


def test_without_a_packing_it_is_the_model_s_own_causal_attention() -> None:
    torch.manual_seed(0)
    module = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=False)
    query, key, value = (torch.randn(1, heads, 5, 8) for heads in (4, 2, 2))
    output, _ = packed_attention_forward(module, query, key, value, None, scaling=0.3)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(output, expected.transpose(1, 2))
    line = pack([np.arange(5)], [1])
    packed, _ = packed_attention_forward(module, query, key, value, None, scaling=0.3, packing=line)
    torch.testing.assert_close(packed, output)


@pytest.mark.parametrize("extra", [{"sliding_window": 4}, {"softcap": 2.0}, {"dropout": 0.1}, {"s_aux": 1}])
def test_an_attention_with_more_than_that_is_refused(extra: dict[str, float]) -> None:
    heads, line = torch.randn(1, 2, 5, 8), pack([np.arange(5)], [1])
    with pytest.raises(NotImplementedError, match="packed attention lacks"):
        packed_attention_forward(SimpleNamespace(), heads, heads, heads, None, packing=line, **extra)


def test_a_cpu_and_float32_get_the_packing_itself() -> None:
    line = pack([np.arange(5)], [1])
    assert packing_argument(line, torch.device("cpu"), torch.bfloat16) is line
    assert packing_argument(line, torch.device("cuda"), torch.float32) is line
