"""Merges a client's overrides into a template."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from baker.config.mistakes import Mistake, find_mistakes, mistakes_error

Config = TypeVar("Config", bound=msgspec.Struct)

ROOT = ("body", "overrides")
"""Where overrides are in a request."""


def merge(template: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`template` with `overrides` applied: objects are merged key by key at every level, all other values are replaced.
    None means "not given"."""
    merged = dict(template)
    for key, value in overrides.items():
        if value is None:
            continue
        inherited = merged.get(key)
        if isinstance(inherited, dict) and isinstance(value, dict):
            merged[key] = merge(inherited, value)
        elif isinstance(value, dict):
            merged[key] = merge({}, value)
        else:
            merged[key] = value
    return merged


def convert(
    overrides: dict[str, Any],
    template: Config | None,
    kind: type[Config],
    *,
    old_names: Mapping[tuple[str, ...], str] | None = None,
    known: Sequence[Mistake] = (),
) -> Config:
    """`template` with `overrides` applied, as a `kind`.

    Args:
        old_names: path -> the field's name in the client's own text, where that is an older one.
        known: mistakes that were found before.
    Raises: ConfigError with every mistake.
    """
    merged = merge({} if template is None else msgspec.to_builtins(template), overrides)
    try:
        config = msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        old = old_names or {}
        mistakes = [_renamed(mistake, old) for mistake in find_mistakes(merged, kind)]
        raise mistakes_error([*known, *mistakes], ROOT) from error
    if known:
        raise mistakes_error([*known], ROOT)
    return config


def _renamed(mistake: Mistake, old_names: Mapping[tuple[str, ...], str]) -> Mistake:
    for path, old in old_names.items():
        if mistake.path[: len(path)] == path:
            return mistake._replace(path=(*path[:-1], old, *mistake.path[len(path) :]))
    return mistake
