"""How far the weights of two versions are apart."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from baker.adapters import updates
from baker.adapters.updates import Update
from baker.types import Checkpoint

LARGEST = 10


class ModuleChange(msgspec.Struct, frozen=True):
    module: str
    norm: float
    """Frobenius norm of the difference of the two updates."""
    relative_norm: float | None
    """The same, divided by the norm of the base model's weight."""


class WeightsDiff(msgspec.Struct, frozen=True):
    """Two versions' updates of the base model, dW_a and dW_b, compared over all modules that either adapts."""

    modules: int
    """Number of modules whose weights differ."""
    norm: float
    """|dW_b - dW_a|, the Frobenius norm."""
    relative_norm: float | None
    """|dW_b - dW_a| / |W|, with the base model's weights W of the same modules; None if its files don't show them."""
    rank_a: int
    """Largest rank of a module's update; 0 for the base model."""
    rank_b: int
    cosine: float | None
    """Of the angle between dW_a and dW_b; None if one of them is zero."""
    largest: list[ModuleChange]
    """The modules with the largest differences, by relative norm if it is known."""


def compare(a: Checkpoint | None, b: Checkpoint | None, base: Path) -> WeightsDiff:
    """Args: a, b: None stands for the base model. base: its folder. Blocks. Raises: AdapterError."""
    of_a = {} if a is None else updates.read_updates(a.path)
    of_b = {} if b is None else updates.read_updates(b.path)
    modules = {module: _module(of_a.get(module), of_b.get(module)) for module in sorted({*of_a, *of_b})}
    norms = updates.base_norms(base, set(modules))
    total = _length(each.distance for each in modules.values())
    changes = [
        ModuleChange(module, each.distance, each.distance / norms[module] if norms.get(module) else None)
        for module, each in modules.items()
        if each.distance > 0
    ]
    lengths = _length(each.norm_a for each in modules.values()) * _length(each.norm_b for each in modules.values())
    return WeightsDiff(
        modules=len(changes),
        norm=total,
        relative_norm=total / _length(norms.values()) if norms and len(norms) == len(modules) else None,
        rank_a=max((each.rank_a for each in modules.values()), default=0),
        rank_b=max((each.rank_b for each in modules.values()), default=0),
        cosine=sum(each.inner for each in modules.values()) / lengths if lengths else None,
        largest=sorted(changes, key=lambda each: (each.relative_norm or 0.0, each.norm), reverse=True)[:LARGEST],
    )


class _Module(NamedTuple):
    distance: float
    norm_a: float
    norm_b: float
    rank_a: int
    rank_b: int
    inner: float


def _module(a: Update | None, b: Update | None) -> _Module:
    return _Module(
        distance=updates.distance(a, b),
        norm_a=0.0 if a is None else updates.norm(a),
        norm_b=0.0 if b is None else updates.norm(b),
        rank_a=0 if a is None else updates.rank(a),
        rank_b=0 if b is None else updates.rank(b),
        inner=0.0 if a is None or b is None else updates.inner(a, b),
    )


def _length(norms: Iterable[float]) -> float:
    return float(sum(norm * norm for norm in norms) ** 0.5)
