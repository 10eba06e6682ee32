"""What adapters add to the weights of the base model, as low-rank factors. Imports no torch.

The update of a module is B @ A of shape (out, in), never formed here: norms, inner products and ranks come from the
factors, which are hundreds of times smaller.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baker.adapters.files import ADAPTER_WEIGHTS, TENSOR_NAME, Tensor, open_weights, read_adapter_config

BLOCK_BYTES = 1 << 24
"""Part of a base model's tensor that is in memory at a time."""
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Update(NamedTuple):
    """B @ A, with the adapter's scale in B."""

    b: NDArray[np.float64]
    """Shape (out, r)."""
    a: NDArray[np.float64]
    """Shape (r, in)."""


def read_updates(folder: Path) -> dict[str, Update]:
    """The adapter's updates by module. Blocks. Raises: AdapterError."""
    config = read_adapter_config(folder)
    tensors, data = open_weights(folder / ADAPTER_WEIGHTS)
    factors: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, tensor in tensors.items():
        if match := TENSOR_NAME.match(name):
            values = _floats(data[slice(*tensor.data_offsets)], tensor).reshape(tensor.shape)
            factors.setdefault(match["module"], {})[match["side"]] = values
    return {
        module: Update(sides["B"] * config.scale_of(module), sides["A"])
        for module, sides in factors.items()
        if len(sides) == 2
    }


def inner(first: Update, second: Update) -> float:
    """The Frobenius inner product of two updates: trace((B1 A1)' B2 A2)."""
    return float(((first.b.T @ second.b) * (first.a @ second.a.T)).sum())


def singular_values(update: Update) -> NDArray[np.float64]:
    """Largest first; at most r of them. With B = Q R and A' = P S, B A has the singular values of R S'."""
    return np.linalg.svd(np.linalg.qr(update.b).R @ np.linalg.qr(update.a.T).R.T, compute_uv=False)


def difference(first: Update | None, second: Update | None) -> Update | None:
    """second - first, of rank r1 + r2. None stands for no update."""
    if first is None or second is None:
        return second if first is None else Update(-first.b, first.a)
    return Update(np.hstack([second.b, -first.b]), np.vstack([second.a, first.a]))


def norm(update: Update | None) -> float:
    """Frobenius norm. Not by `inner`, which would lose half of the digits of a small difference."""
    return 0.0 if update is None else float(np.linalg.norm(singular_values(update)))


def rank(update: Update | None) -> int:
    """Number of singular values that are not rounding of float32."""
    if update is None:
        return 0
    values = singular_values(update)
    limit = values.max(initial=0.0) * max(len(update.b), update.a.shape[1]) * float(np.finfo(np.float32).eps)
    return int((values > limit).sum())


def base_norms(base: Path, modules: set[str]) -> dict[str, float]:
    """Frobenius norm of the base model's weight of each module; without those that have other names or types there.

    Reads the weights block by block. Blocks. Raises: AdapterError if a file is broken.
    """
    norms: dict[str, float] = {}
    for path in sorted(base.glob("*.safetensors")):
        tensors, data = open_weights(path, any_type=True)
        for name, tensor in tensors.items():
            module = name.removesuffix(".weight")
            if module in modules and name != module and tensor.dtype in _FLOATS:
                norms[module] = _norm(data[slice(*tensor.data_offsets)], tensor)
    return norms


def _norm(data: NDArray[np.uint8], tensor: Tensor) -> float:
    blocks = (data[start : start + BLOCK_BYTES] for start in range(0, len(data), BLOCK_BYTES))
    return float(np.sqrt(sum(float(np.square(_floats(block, tensor)).sum()) for block in blocks)))


def _floats(data: NDArray[np.uint8], tensor: Tensor) -> NDArray[np.float64]:
    values = np.frombuffer(data.tobytes(), dtype=_FLOATS[tensor.dtype])
    if tensor.dtype == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)
