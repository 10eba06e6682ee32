"""Checks names, and turns names into paths."""

import re
from pathlib import Path

from baker.errors import ConfigError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_NAME = re.compile(NAME_PATTERN + r"\Z")

MASTER_USER = "admin"
"""The user that the master key acts as when a request names none. The users table has no row for it."""

RESERVED = {
    "user": frozenset({MASTER_USER}),
    "repo": frozenset[str](),
    "prompt": frozenset({"batch"}),
    "target": frozenset({"batch", "default"}),
    "bake": frozenset({"batch", "default", "HEAD"}),
    "branch": frozenset({"HEAD", "base"}),
    "tag": frozenset({"HEAD", "base"}),
}
"""Names taken by a route (`batch`), the built-in template (`default`), the master key's user, the current branch
(`HEAD`) or the base model (`base` in a comparison)."""


def is_name(text: str) -> bool:
    """Whether `text` has the form of a name."""
    return _NAME.match(text) is not None


def check_name(name: str, what: str) -> str:
    """`name` itself, if it is allowed for a `what` (user, repo, prompt, target, bake, ...). Raises: ConfigError."""
    if not is_name(name):
        raise ConfigError(f"{what} name {name!r:.140} {_complaint(name)}")
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
    """The path `root/<name>/<name>...`, with each name checked. Every path that contains a name is built here."""
    for name in names:
        check_name(name, "path")
    return root.joinpath(*names)
