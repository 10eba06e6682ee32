"""Lays a client's overrides over a template, and turns msgspec's complaints into errors that name the field."""

from typing import Any, TypeVar

import msgspec

from baker.errors import ConfigError

Config = TypeVar("Config", bound=msgspec.Struct)


def merge(template: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`overrides` laid over `template`: objects key by key and deeply, all else replaced; None is "not given"."""
    merged = dict(template)
    for key, value in overrides.items():
        if value is None:
            continue
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = merge(below, value)
        elif isinstance(value, dict):
            merged[key] = merge({}, value)
        else:
            merged[key] = value
    return merged


def convert(overrides: dict[str, Any], template: Config | None, kind: type[Config]) -> Config:
    """`overrides` over `template` as settings of that kind. Raises: ConfigError naming the field and the value."""
    merged = merge({} if template is None else msgspec.to_builtins(template), overrides)
    try:
        return msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        raise config_error(error, ("body", "overrides"), merged) from error


def config_error(error: msgspec.ValidationError, root: tuple[str, ...], given: Any) -> ConfigError:
    """msgspec's complaint about `given` with the field's path first, as our clients expect it, and its value last."""
    text, _, path = str(error).partition(" - at `$")
    fields = [part for part in path.rstrip("`").replace("[", ".").replace("]", "").split(".") if part]
    where = ".".join((*root[1:], *fields))
    if text.startswith("Expected `") and (value := _value_at(given, fields)) is not msgspec.UNSET:
        text = with_value(text, value)
    return ConfigError(
        f"{where}: {text}" if where else text,
        detail=[{"loc": [*root, *fields], "msg": text, "type": "value_error"}],
    )


def with_value(complaint: str, value: Any) -> str:
    """A complaint of msgspec's, which tells what was expected and at most the type that was found."""
    return f"{complaint}{':' if ', got ' in complaint else ', got'} {value!r:.80}"


def _value_at(given: Any, fields: list[str]) -> Any:
    """UNSET where the path is not one of plain fields: msgspec does not say which key of a map it means."""
    for field in fields:
        try:
            given = given[int(field) if isinstance(given, list) else field]
        except (LookupError, TypeError, ValueError):
            return msgspec.UNSET
    return given
