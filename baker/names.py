"""Legal names, and the only way from a name to a path."""

import re
from pathlib import Path

from baker.errors import ConfigError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_NAME = re.compile(NAME_PATTERN + r"\Z")

MASTER_USER = "admin"
"""Whose repos the master key works on when it names no user; there is no such row among the users."""

RESERVED = {
    "user": frozenset({MASTER_USER}),
    "repo": frozenset[str](),
    "prompt": frozenset({"batch"}),
    "target": frozenset({"batch", "default"}),
    "bake": frozenset({"batch", "default"}),
}
"""Names that collide with a route (`batch`), the built-in template (`default`) or the master key's user."""


def is_name(text: str) -> bool:
    """Whether the text has the form of a name."""
    return _NAME.match(text) is not None


def check_name(name: str, what: str) -> str:
    """`name` itself, if a user, repo, prompt, target or bake (`what`) may be called so; else ConfigError."""
    if not is_name(name):
        raise ConfigError(f"{what} name {name!r} {_complaint(name)}")
    if name in RESERVED.get(what, ()):
        raise ConfigError(f"{what} name {name!r} is reserved: choose another")
    return name


def _complaint(name: str) -> str:
    if not name:
        return "is empty"
    if len(name) > 128:
        return f"has {len(name)} characters, at most 128 are allowed"
    for character in name:
        if re.match(r"[A-Za-z0-9._-]", character) is None:
            return f"contains an invalid character: {character!r} (letters, digits, '.', '_' and '-' are allowed)"
    return f"must begin with a letter or a digit, not {name[0]!r}"


def path_of(root: Path, *names: str) -> Path:
    """The path below `root` that the checked `names` lead to; the only way from a name to the disk."""
    for name in names:
        check_name(name, "path")
    return root.joinpath(*names)
