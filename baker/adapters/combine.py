"""Weighted sums of adapters, written as one adapter. Imports no torch. Blocks: the server calls it in a thread.

The sum of B_i @ A_i is the product of the stacked factors. `low_rank` cuts it to a rank without forming a matrix of
shape (out, in). Only one module is in memory at a time.
"""

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter, content_hash, read_adapter_config
from baker.adapters.low_rank import LowRank, low_rank
from baker.adapters.updates import Update, Updates
from baker.errors import AdapterError

EXACT = 1 - 1e-12
"""Share of the energy that counts as all of it: the rest is 1e-6 of the norm, the precision of the file."""
_ANY_RANK = 2**31
_SUM_ROUNDING = 1e-12
"""Share of the coefficients' sizes below which their sum is rounding, as that of 0.1 + 0.2 - 0.3."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class Term(NamedTuple):
    adapter: Path
    """Folder of an adapter."""
    coefficient: float
    """May be negative."""


class Combination(msgspec.Struct, frozen=True):
    """An adapter that was written, and what its rank costs."""

    rank: int
    """Rank of the written adapter."""
    full_rank: int
    """Largest rank of a module of the exact sum."""
    energy_lost: float
    """Sum of the squared singular values that were cut / sum of all squared singular values; 0 if none was cut."""
    modules: int
    sha256: str
    """`content_hash` of the folder."""


class _Sum(NamedTuple):
    """A weighted sum of adapters, whose factors are read when they are needed."""

    terms: list[tuple[Updates, float]]
    modules: list[str]

    def shape_of(self, module: str) -> tuple[int, int]:
        return next(updates.shape_of(module) for updates, _ in self.terms if module in updates)

    def update_of(self, module: str) -> Update:
        """The stacked factors: shapes (out, k) and (k, in), with k the sum of the terms' ranks."""
        present = [(updates[module], coefficient) for updates, coefficient in self.terms if module in updates]
        with np.errstate(over="ignore"):
            b = np.hstack([coefficient * update.b for update, coefficient in present])
        if not np.abs(b).max() <= _FLOAT32_MAX:
            raise AdapterError(f"{module}: weights times alpha and coefficient are too large for float32")
        return Update(b, np.vstack([update.a for update, _ in present]))


def combine(
    terms: Sequence[Term],
    folder: Path,
    *,
    max_rank: int,
    energy: float = EXACT,
    base_model_name: str | None = None,
) -> Combination:
    """Write the adapter whose update is the sum of coefficient * update over the terms, into `folder`.

    A module that an adapter lacks counts as zero. The order of the terms makes no difference. The result has one rank
    for all modules, the smallest that keeps `energy`, and scale 1. If one adapter with coefficient 1 is left, its
    weights are copied. A crash leaves a part of the files: give a temporary folder, and rename it.

    Args:
        max_rank: largest rank of the result.
        energy: share of the sum of squared singular values to keep, where `max_rank` allows it, in (0, 1].
        base_model_name: of the result; None: that of the terms, if they agree.
    Raises: AdapterError if an adapter is broken, the adapters' shapes differ, a coefficient or a result is not finite,
        or the terms cancel each other out; OSError if `folder` can't be written.
    """
    if max_rank < 1 or not 0 < energy <= 1:
        raise ValueError(f"max_rank must be at least 1 and energy in (0, 1], got {max_rank} and {energy}")
    left = _added_up(terms)
    total = _opened(left)
    parts = {module: _part(module, total.update_of(module)) for module in total.modules}
    full_rank = max(len(part.values) for part in parts.values())
    if full_rank == 0:
        raise AdapterError("nothing is left: the adapters cancel each other out, or change nothing")
    lost = _energies_lost(list(parts.values()))
    rank = min(max_rank, int((lost <= (1 - energy) * lost[0]).argmax()))
    folder.mkdir(parents=True, exist_ok=True)
    name = base_model_name or _common_base([term.adapter for term in left])
    copied = _rank_of_file(left[0].adapter) if len(left) == 1 and math.isclose(left[0].coefficient, 1) else None
    if copied is not None and copied <= max_rank and energy >= EXACT:
        _copy(left[0].adapter, folder, name)
        rank, share = copied, 0.0
    else:
        _write_config(folder, total.modules, rank, name)
        _write_weights(folder, total, parts, rank)
        share = float(lost[min(rank, full_rank)] / lost[0])
    return Combination(rank, full_rank, share, len(total.modules), content_hash(folder))


def _added_up(terms: Sequence[Term]) -> list[Term]:
    """One term for each different adapter, in an order that depends on their contents alone; none of them is 0."""
    by_content: dict[str, list[Term]] = {}
    for adapter, coefficient in terms:
        if not math.isfinite(coefficient):
            raise AdapterError(f"the coefficient of {adapter} must be finite, got {coefficient}")
        check_adapter(adapter, max_rank=_ANY_RANK)
        by_content.setdefault(content_hash(adapter), []).append(Term(adapter, coefficient))
    left = []
    for _, same in sorted(by_content.items()):
        coefficients = [term.coefficient for term in same]
        total = math.fsum(coefficients)
        if abs(total) > _SUM_ROUNDING * sum(map(abs, coefficients)):
            left.append(Term(same[0].adapter, total))
    if not left:
        raise AdapterError("nothing is left: the coefficients of every adapter add up to 0")
    return left


def _opened(terms: Sequence[Term]) -> _Sum:
    """Raises: AdapterError if two adapters have different shapes for a module."""
    updates = [(Updates(term.adapter), term.coefficient) for term in terms]
    shapes: dict[str, tuple[tuple[int, int], Path]] = {}
    for term, (adapter, _) in zip(terms, updates, strict=True):
        for module in adapter:
            shape, first = shapes.setdefault(module, (adapter.shape_of(module), term.adapter))
            if adapter.shape_of(module) != shape:
                raise AdapterError(
                    f"{module} has shape {shape} in {first} and {adapter.shape_of(module)} in {term.adapter}: "
                    "adapters of different base models can't be combined"
                )
    return _Sum(updates, sorted(shapes))


def _part(module: str, update: Update) -> LowRank:
    part = low_rank(update)
    if part.values.max(initial=0.0) > _FLOAT32_MAX:
        raise AdapterError(f"{module}: the sum is too large for float32 ({part.values[0]:g})")
    return part


def _energies_lost(parts: Sequence[LowRank]) -> NDArray[np.float64]:
    """At position r: the sum of squared singular values that a cut to rank r loses."""
    energies = np.zeros(max(len(part.values) for part in parts) + 1)
    for part in parts:
        energies[: len(part.values)] += part.values**2
    lost: NDArray[np.float64] = energies[::-1].cumsum()[::-1]
    return lost


def _common_base(adapters: Sequence[Path]) -> str | None:
    names = {read_adapter_config(adapter).base_model_name_or_path for adapter in adapters}
    return names.pop() if len(names) == 1 else None


def _rank_of_file(adapter: Path) -> int:
    config = read_adapter_config(adapter)
    return max(config.r, *(config.rank_pattern or {}).values(), 0)


def _copy(adapter: Path, folder: Path, base_model_name: str | None) -> None:
    shutil.copyfile(adapter / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    config: dict[str, Any] = msgspec.json.decode((adapter / ADAPTER_CONFIG).read_bytes())
    _write_json(folder / ADAPTER_CONFIG, {**config, "base_model_name_or_path": base_model_name})


def _write_config(folder: Path, modules: Sequence[str], rank: int, base_model_name: str | None) -> None:
    """Names every module in full, since the adapters may adapt different ones in different layers."""
    config = {
        "base_model_name_or_path": base_model_name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": list(modules),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    _write_json(folder / ADAPTER_CONFIG, config)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def _write_weights(folder: Path, total: _Sum, parts: Mapping[str, LowRank], rank: int) -> None:
    """A safetensors file in float32, written tensor by tensor."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for module in total.modules:
        out, width = total.shape_of(module)
        for side, shape in (("A", [rank, width]), ("B", [out, rank])):
            begin, end = end, end + 4 * math.prod(shape)
            name = f"base_model.model.{module}.lora_{side}.weight"
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    encoded = msgspec.json.encode(header)
    encoded += b" " * (-len(encoded) % 8)
    with (folder / ADAPTER_WEIGHTS).open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for module in total.modules:
            for factor in _factors(module, total.update_of(module), parts[module], rank):
                file.write(factor.astype("<f4").tobytes())


def _factors(module: str, update: Update, part: LowRank, rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A of shape (rank, in) and B of shape (out, rank).

    Rows that the module does not need start as LoRA's do, A random and B zero, so that a training can use them.
    """
    kept = min(rank, len(part.values))
    width = update.a.shape[1]
    seed = int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "little")
    a, b = np.zeros((rank, width)), np.zeros((len(update.b), rank))
    a[kept:] = np.random.default_rng(seed).uniform(-1, 1, (rank - kept, width)) / math.sqrt(width)
    a[:kept], b[:, :kept] = part.right[:kept] @ update.a, update.b @ part.left[:, :kept]
    # A singular pair has two signs: the first of the largest entries of a row of A is positive.
    largest = a[np.arange(kept), np.abs(a[:kept]).argmax(axis=1)]
    signs = np.where(largest < 0, -1.0, 1.0)
    a[:kept] *= signs[:, None]
    b[:, :kept] *= signs
    return a.astype(np.float32), b.astype(np.float32)
