"""Lists all settings of a typed config, nested ones included."""

from collections.abc import Iterator
from typing import Any, get_args

import msgspec


def settings_of(kind: Any, at: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Every field below `kind`, by its path. `[]` marks an item of a list: `checkpoint[].type`."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            path = f"{at}.{field.name}" if at else field.name
            yield path, field
            yield from settings_of(field.type, path)
    for inner in get_args(kind):
        yield from settings_of(inner, f"{at}[]" if getattr(kind, "__origin__", None) is list else at)
