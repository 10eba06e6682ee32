"""How the command reads the names of versions: `repo/ref`, `user/repo/ref`, or a bare ref in the current repo."""

import re
from collections.abc import Collection
from typing import NamedTuple

from gateway.cli.failures import CliError, Exit

_SUFFIXES = re.compile(r"([~^]\d*|@\{\d*\})+$")
_STRENGTH = re.compile(r"@\d+(\.\d+)?$")


class Name(NamedTuple):
    """A version's name in parts."""

    user: str | None
    """None: the key's user."""
    repo: str | None
    """None: the current repo."""
    rev: str
    """A revision in the repo: `yoda`, `yoda/12`, `HEAD~1`, `4f1c2aa`, `origin/yoda`."""

    @property
    def model(self) -> str:
        """The name as a model's name."""
        return "/".join(part for part in self if part)


def parse(text: str, repos: Collection[str]) -> Name:
    """The parts of a name. A name that begins with one of the repos is in that repo.

    Args: repos: names of the caller's repos.
    Raises: CliError if the text can't be a version's name.
    """
    parts = text.split("/")
    if not all(parts):
        raise CliError(f"{text!r} is not a version's name: write repo/ref, such as hooli/yoda", Exit.USAGE)
    if len(parts) == 4 and _is_step(parts[-1]):
        return Name(parts[0], parts[1], "/".join(parts[2:]))
    if len(parts) in {2, 3} and parts[0] in repos:
        return Name(None, parts[0], "/".join(parts[1:]))
    if len(parts) == 3:
        return Name(parts[0], parts[1], parts[2])
    if len(parts) < 3:  # a bake's step or a remote's name in the current repo
        return Name(None, None, text)
    raise CliError(f"{text!r} has too many parts: a version is [user/]repo/ref or [user/]repo/bake/step", Exit.USAGE)


def _is_step(part: str) -> bool:
    bare = without_suffixes(part)
    return bare.isascii() and bare.isdigit() and len(bare) <= 18


def without_suffixes(rev: str) -> str:
    """The revision without its strength and without `~1`, `^2` and `@{3}`."""
    return _SUFFIXES.sub("", _STRENGTH.sub("", rev))
