"""Legal names, the spellings of a model's name, and the one road from a name to a path."""

import difflib
import heapq
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

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


def check_name(name: str, what: str) -> str:
    """`name` itself, if a user, repo, prompt, target or bake (`what`) may be called so; else ConfigError."""
    if _NAME.match(name) is None:
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


MAX_MODEL_NAME = 4 * 128 + 3
"""Characters: four names and the slashes between them."""


def shortened(name: str) -> str:
    """`name` for a message: a client may send megabytes of it."""
    return name if len(name) <= MAX_MODEL_NAME else f"{name[:64]}..."


MOST_COMPARED, MOST_RANKED = 500, 32


def nearest(name: str, known: Iterable[str], count: int) -> list[str]:
    """The known names that `name` may have been meant to be, likeliest first.

    A moment's work however many are known, since everybody waits for it: only the first 500 are looked at, and
    difflib, which takes half a millisecond a name, judges those of them that begin most like it.
    """
    name = shortened(name)
    first = islice(known, MOST_COMPARED)

    def alike(other: str) -> int:
        return len(os.path.commonprefix((name, other)))  # noqa: RUF071 - characters are what is meant

    alike_most = heapq.nlargest(MOST_RANKED, first, key=alike)
    return difflib.get_close_matches(name, alike_most, n=count, cutoff=0.0)


MAX_STRENGTH = 2.0
STRENGTH_RULE = "a strength is the end of a bake's name: '@' and a number from 0 to 2 with at most two decimals"
_STRENGTH = re.compile(r"[0-2](\.[0-9]{1,2})?\Z")
_STRENGTHS = tuple("" if hundredths == 100 else f"@{hundredths / 100:g}" for hundredths in range(201))


def split_strength(name: str) -> tuple[str, float | None]:
    """A model's name without the `@<strength>` at its end, and the strength: what an adapter's update is multiplied by.

    1 where none is written; None where what is written is none (`STRENGTH_RULE`).
    """
    whole, mark, written = name.partition("@")
    if not mark:
        return whole, 1.0
    is_one = _STRENGTH.match(written) is not None and float(written) <= MAX_STRENGTH
    return whole, float(written) if is_one else None


def at_strength(name: str, strength: float) -> str:
    """The one name of the adapter `name` at a strength from `split_strength`; at 1 it is the adapter itself."""
    return f"{name}{_STRENGTHS[round(100 * strength)]}"


def at_all_strengths(name: str) -> Iterator[str]:
    """The names that the adapter `name` can have."""
    return (f"{name}{strength}" for strength in _STRENGTHS)


def held_back(name: str, checkpoints: list[str]) -> str:
    """What to say of a bake whose name means none of its checkpoints."""
    there = ", ".join(checkpoints[:3])
    return (
        f"The model {name!r} means none of its checkpoints yet: the bake's publish_if holds them back, its status says "
        f"why. They answer under their own names ({there}); promote one to let {name!r} mean it"
    )


class CheckpointRef(msgspec.Struct, frozen=True):
    """A spelled model name that has the form of a bake's."""

    user: str | None
    """None: the caller's own."""
    repo: str
    bake: str
    step: int | None
    """None: the one that the bake's name means."""

    def owner(self, caller: str) -> str | None:
        """Whose bake it is when `caller` says it; None if that is nobody whose models the caller may name.

        The master key's user may name everybody's, every other user only its own.
        """
        if self.user is None:
            return caller
        return self.user if caller in (self.user, MASTER_USER) else None


def parse_model_name(name: str) -> CheckpointRef | None:
    """What `name`, without a strength, refers to if it is spelled like a bake; None if it can't be one.

    `user/repo/bake/step`, `user/repo/bake`, `repo/bake/step` (three parts, the last all digits) and
    `repo/bake`. A base model's name (`Org/Model`) has the last form too: look those up first.
    """
    if len(name) > MAX_MODEL_NAME:
        return None
    parts = name.split("/")
    if not all(_NAME.match(part) for part in parts):
        return None
    match parts:
        case [user, repo, bake, step] if _is_step(step):
            return CheckpointRef(user, repo, bake, int(step))
        case [repo, bake, step] if _is_step(step):
            return CheckpointRef(None, repo, bake, int(step))
        case [user, repo, bake]:
            return CheckpointRef(user, repo, bake, None)
        case [repo, bake]:
            return CheckpointRef(None, repo, bake, None)
    return None


def _is_step(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= 18
