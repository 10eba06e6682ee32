"""How far the weights of two versions are apart."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from baker.adapters import updates
from baker.adapters.updates import Update
from baker.types import Checkpoint

LARGEST = 10
SAME = 1e-12
"""Share of the updates' norm below which a difference is rounding."""


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
    distances = {module: _distance(of_a.get(module), of_b.get(module)) for module in sorted({*of_a, *of_b})}
    norms = updates.base_norms(base, set(distances))
    total = _length(distances.values())
    changes = [
        ModuleChange(module, distance, distance / norms[module] if norms.get(module) else None)
        for module, distance in distances.items()
        if distance > 0
    ]
    return WeightsDiff(
        modules=len(changes),
        norm=total,
        relative_norm=total / _length(norms.values()) if norms and len(norms) == len(distances) else None,
        rank_a=max(map(updates.rank, of_a.values()), default=0),
        rank_b=max(map(updates.rank, of_b.values()), default=0),
        cosine=_cosine(of_a, of_b),
        largest=sorted(changes, key=lambda each: (each.relative_norm or 0.0, each.norm), reverse=True)[:LARGEST],
    )


def _distance(first: Update | None, second: Update | None) -> float:
    distance = updates.norm(updates.difference(first, second))
    return distance if distance > SAME * (updates.norm(first) + updates.norm(second)) else 0.0


def _cosine(of_a: dict[str, Update], of_b: dict[str, Update]) -> float | None:
    length = _length(map(updates.norm, of_a.values())) * _length(map(updates.norm, of_b.values()))
    if length == 0:
        return None
    return sum(updates.inner(of_a[module], of_b[module]) for module in of_a.keys() & of_b.keys()) / length


def _length(norms: Iterable[float]) -> float:
    return float(sum(norm * norm for norm in norms) ** 0.5)
