"""What adapters add to the weights of the base model, as low-rank factors. Imports no torch.

The update of a module is B @ A of shape (out, in), never formed here: norms, inner products and ranks come from the
factors, which are hundreds of times smaller.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baker.adapters.files import ADAPTER_WEIGHTS, TENSOR_NAME, Tensor, open_weights, read_adapter_config

BLOCK_BYTES = 1 << 18
"""Part of a base model's tensor that is converted and summed at a time: small, so that float32 loses nothing."""
SAME = 1e-7
ROUNDING = 1e-4
"""Share of the largest singular value below which one is rounding: float32 has 7 digits, and thousands are summed."""
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Update(NamedTuple):
    """B @ A, with the adapter's scale in B."""

    b: NDArray[np.float64]
    """Shape (out, r)."""
    a: NDArray[np.float64]
    """Shape (r, in)."""


class Updates(Mapping[str, Update]):
    """An adapter's updates by module. Each is read from the file when it is asked for. Blocks."""

    def __init__(self, folder: Path) -> None:
        """Raises: AdapterError."""
        self._config = read_adapter_config(folder)
        tensors, self._data = open_weights(folder / ADAPTER_WEIGHTS)
        pairs: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if match := TENSOR_NAME.match(name):
                pairs.setdefault(match["module"], {})[match["side"]] = tensor
        self._pairs = {module: sides for module, sides in pairs.items() if len(sides) == 2}

    def __getitem__(self, module: str) -> Update:
        sides = self._pairs[module]
        return Update(self._read(sides["B"]) * self._config.scale_of(module), self._read(sides["A"]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def shape_of(self, module: str) -> tuple[int, int]:
        """Shape (out, in) of the module's update."""
        return self._pairs[module]["B"].shape[0], self._pairs[module]["A"].shape[1]

    def _read(self, tensor: Tensor) -> NDArray[np.float64]:
        values = _floats(self._data[slice(*tensor.data_offsets)], tensor)
        return values.astype(np.float64).reshape(tensor.shape)


def read_updates(folder: Path) -> dict[str, Update]:
    """All of an adapter's updates by module, in memory. Blocks. Raises: AdapterError."""
    return dict(Updates(folder))


def inner(first: Update, second: Update) -> float:
    """The Frobenius inner product of two updates: trace((B1 A1)' B2 A2)."""
    return float(((first.b.T @ second.b) * (first.a @ second.a.T)).sum())


def singular_values(update: Update) -> NDArray[np.float64]:
    """Of B @ A, largest first; at most r of them, exact to 1e-8 of the largest.

    They are the square roots of the eigenvalues of (B'B)(AA'), of shape (r, r). A QR of the factors would be exact to
    1e-16, and took 40 times as long where other processes use the cores: its threads wait for each other.
    """
    values, vectors = np.linalg.eigh(update.a @ update.a.T)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    squares: NDArray[np.float64] = np.linalg.eigvalsh(root.T @ (update.b.T @ update.b) @ root)
    descending: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0))[::-1]
    return descending


def norm(update: Update) -> float:
    """Frobenius norm."""
    return math.sqrt(max(inner(update, update), 0.0))


def distance(first: Update | None, second: Update | None) -> float:
    """Frobenius norm of second - first, exact to 1e-8 of their norms; below 1e-7, the precision of their files, it is
    0. None stands for no update."""
    if first is None or second is None:
        return sum(norm(each) for each in (first, second) if each is not None)
    squares = inner(first, first), inner(second, second)
    square = sum(squares) - 2 * inner(first, second)
    return math.sqrt(square) if square > SAME**2 * sum(squares) else 0.0


def rank(update: Update) -> int:
    """Number of singular values that are not rounding of float32."""
    values = singular_values(update)
    return int((values > values.max(initial=0.0) * ROUNDING).sum())


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
    return math.sqrt(sum(float(np.vdot(values, values)) for values in (_floats(block, tensor) for block in blocks)))


def _floats(data: NDArray[np.uint8], tensor: Tensor) -> NDArray[np.floating[Any]]:
    """The values as float32, or as float64 if they have that type."""
    values: NDArray[Any] = np.frombuffer(data, dtype=_FLOATS[tensor.dtype])
    if tensor.dtype == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32 if tensor.dtype != "F64" else np.float64)
