"""RMS norms on a CPU by vLLM's own kernels, where these are correct.

vLLM 0.32 uses them only on GPUs; on a CPU torch's operators pass eight times over each row: 81 us instead of 19 for 256
rows of 576, and an engine of SmolLM2 is 8 % slower. The kernels assume contiguous rows and ignore strides. So rows that
are part of wider ones, and inputs with more dimensions (norms of queries and keys), stay with torch.

Remove this when vLLM registers `vllm_c`'s norms for CPUs. The module imports vLLM only in `install`, since settings
need `PRIORITY`.
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

OPS = ("rms_norm", "fused_add_rms_norm")
PROVIDER = "vllm_c"
PRIORITY = json.dumps({name: [PROVIDER, "native"] for name in OPS})
"""Value of vLLM's argument `--ir-op-priority`."""
LANES = 32
"""The width of rows must be a multiple of this: the most numbers, of any type, that a vector register holds."""


def _suits(x: "Tensor", weight: "Tensor | None", epsilon: float, variance_size: int | None = None) -> bool:
    # Strides, not is_contiguous(): a single row that is part of a wider one counts as contiguous, and must be rounded
    # alone as in a batch.
    return (
        variance_size is None
        and weight is not None
        and weight.dtype == x.dtype
        and x.stride() == (x.shape[-1], 1)
        and x.shape[-1] % LANES == 0
    )


def _both_suit(
    x: "Tensor", x_residual: "Tensor", weight: "Tensor | None", epsilon: float, variance_size: int | None = None
) -> bool:
    matches = x_residual.stride() == x.stride() and x_residual.dtype == x.dtype
    return matches and _suits(x, weight, epsilon, variance_size)


def install() -> None:
    """Let vLLM use the kernels where they are correct. Call once, in its worker, before it builds the model."""
    from vllm import ir
    from vllm.kernels import vllm_c

    assert vllm_c  # registers them
    for name, suits in zip(OPS, (_suits, _both_suit), strict=True):
        kernel: Any = getattr(ir.ops, name).impls[PROVIDER]
        kernel.supported, kernel._supports_args = True, suits
