"""vLLM's kernels for RMS norms on a CPU, compared with torch's operators, and where they may not be used."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gateway.engine import Engine
from gateway.engine.worker import cpu_norms

TYPES = [torch.bfloat16, torch.float32]


@pytest.fixture(autouse=True)
def _chosen_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels come first, as in the worker. The engine's fixture imports vLLM without its warnings."""
    from vllm import ir
    from vllm.kernels import vllm_c

    assert vllm_c
    for op in (ir.ops.rms_norm, ir.ops.fused_add_rms_norm):
        kernel = op.impls[cpu_norms.PROVIDER]
        for name in ("supported", "_supports_args"):
            monkeypatch.setattr(kernel, name, getattr(kernel, name))
    cpu_norms.install()
    priority = [cpu_norms.PROVIDER, "native"]
    with ir.ops.rms_norm.set_priority(priority), ir.ops.fused_add_rms_norm.set_priority(priority):
        yield


def rows(dtype: torch.dtype, width: int = 64, stride: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    return torch.randn(7, stride or width, generator=generator).to(dtype)[:, :width]


def compared(x: Tensor, weight: Tensor) -> tuple[str, Tensor, Tensor]:
    """The provider that was chosen, its norm, and torch's norm."""
    from vllm import ir

    chosen = ir.ops.rms_norm.dispatch(x, weight, 1e-5)
    return chosen.provider, ir.ops.rms_norm(x, weight, 1e-5), ir.ops.rms_norm.impls["native"].impl_fn(x, weight, 1e-5)


def compared_sums(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[str, Any, Any]:
    from vllm import ir

    op = ir.ops.fused_add_rms_norm
    provider = op.dispatch(x, residual, weight, 1e-5).provider
    native = op.impls["native"].impl_fn(x, residual, weight, 1e-5)
    return provider, op(x, residual, weight, 1e-5), native


@pytest.mark.parametrize("dtype", TYPES)
def test_the_kernels_compute_the_same(dtype: torch.dtype) -> None:
    x, residual, weight = rows(dtype), rows(dtype) + 1, torch.rand(64).to(dtype)
    tolerance = {"rtol": 0.01, "atol": 0.01} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    provider, norm, native = compared(x, weight)
    assert provider == cpu_norms.PROVIDER and torch.allclose(norm, native, **tolerance)
    provider, sums, native_sums = compared_sums(x, residual, weight)
    assert provider == cpu_norms.PROVIDER
    assert torch.allclose(sums[0], native_sums[0], **tolerance) and torch.equal(sums[1], native_sums[1])


@pytest.mark.parametrize("dtype", TYPES)
def test_torch_computes_parts_of_wider_rows_odd_widths_and_other_types(dtype: torch.dtype) -> None:
    wide = rows(dtype, 64, stride=200)
    other = torch.float16 if dtype == torch.bfloat16 else torch.bfloat16
    for x, weight in (
        (wide, torch.rand(64).to(dtype)),
        (wide[:1], torch.rand(64).to(dtype)),
        (rows(dtype).unflatten(-1, (2, 32))[:1], torch.rand(32).to(dtype)),
        (wide.unflatten(-1, (2, 32)), torch.rand(32).to(dtype)),
        (rows(dtype, 65), torch.rand(65).to(dtype)),
        (rows(dtype), torch.rand(64).to(other)),
    ):
        provider, norm, native = compared(x, weight)
        assert provider == "native" and torch.equal(norm, native)
        assert compared_sums(x, torch.ones_like(x), weight)[0] == "native"
    assert compared_sums(rows(dtype), wide, torch.rand(64).to(dtype))[0] == "native"


def test_the_engine_prefers_the_kernels(engine: Engine) -> None:
    config = engine.running().vllm_config.kernel_config.ir_op_priority
    assert all(getattr(config, name)[0] == cpu_norms.PROVIDER for name in cpu_norms.OPS)
