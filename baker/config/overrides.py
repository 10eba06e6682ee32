"""Merges a client's overrides into a template, and converts msgspec's errors into ours, which name the field."""

from typing import Any, NamedTuple, TypeVar

import msgspec

from baker.errors import ConfigError

Config = TypeVar("Config", bound=msgspec.Struct)


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


def convert(overrides: dict[str, Any], template: Config | None, kind: type[Config]) -> Config:
    """`template` with `overrides` applied, as a `kind`. Raises: ConfigError naming the field and the value."""
    merged = merge({} if template is None else msgspec.to_builtins(template), overrides)
    try:
        return msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        raise config_error(error, ("body", "overrides"), merged) from error


def config_error(error: msgspec.ValidationError, root: tuple[str, ...], given: Any) -> ConfigError:
    """msgspec's `error` about `given` as ours: the field's path first, as our clients expect, and its value last.

    `root` is the path of `given` within the request.
    """
    text, path, lacks_value = parse_complaint(error)
    where = ".".join((*root[1:], *path))
    if lacks_value and (value := _value_at(given, path)) is not msgspec.UNSET:
        text = with_value(text, value)
    return ConfigError(
        f"{where}: {text}" if where else text,
        detail=[{"loc": [*root, *path], "msg": text, "type": "value_error"}],
    )


class Complaint(NamedTuple):
    """The parts of one of msgspec's messages."""

    text: str
    path: list[str]
    """Fields and indices, the outermost first; keys of maps are missing."""
    lacks_value: bool
    """Set if the text says what was expected but not the value."""


def parse_complaint(error: msgspec.ValidationError) -> Complaint:
    """The only code that reads msgspec's wording, "Expected `int`, got `str` - at `$.model.rank`": its errors have no
    codes and no path."""
    text, _, path = str(error).partition(" - at `$")
    fields = [part for part in path.rstrip("`").replace("[", ".").replace("]", "").split(".") if part]
    return Complaint(text, fields, text.startswith("Expected `"))


def with_value(complaint: str, value: Any) -> str:
    """msgspec's message with the refused value added; msgspec itself names only types."""
    return f"{complaint}{':' if ', got ' in complaint else ', got'} {value!r:.80}"


def _value_at(given: Any, fields: list[str]) -> Any:
    """The value at the path; UNSET if the path can't be followed, as msgspec does not name the key of a map."""
    for field in fields:
        try:
            given = given[int(field) if isinstance(given, list) else field]
        except (LookupError, TypeError, ValueError):
            return msgspec.UNSET
    return given
