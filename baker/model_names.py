"""How model names are written and parsed, and which of them mean the base model."""

import difflib
import heapq
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from baker.names import MASTER_USER, is_name

# References to checkpoints

MAX_MODEL_NAME = 4 * 128 + 3
"""Characters in four names and the slashes between them."""


class CheckpointRef(msgspec.Struct, frozen=True):
    """A model name that is written like a bake's, in parts."""

    user: str | None
    """None: the caller."""
    repo: str
    bake: str
    step: int | None
    """None: the checkpoint that the bake's name means."""

    def owner(self, caller: str) -> str | None:
        """The user that owns the bake when `caller` uses this name; None if `caller` may not use it.

        The master key's user may name every user's models, other users only their own.
        """
        if self.user is None:
            return caller
        return self.user if caller in (self.user, MASTER_USER) else None


def parse_model_name(name: str) -> CheckpointRef | None:
    """The checkpoint that `name` (without a strength) refers to; None if it is not written like a bake's name.

    Accepted are `user/repo/bake/step`, `user/repo/bake`, `repo/bake/step` (three parts, the last all digits) and
    `repo/bake`. A base model's name (`Org/Model`) has the last form too: look those up first.
    """
    if len(name) > MAX_MODEL_NAME:
        return None
    parts = name.split("/")
    if not all(map(is_name, parts)):
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


# Strengths: `repo/bake@0.5`

MAX_STRENGTH = 2.0
STRENGTH_RULE = (
    "a strength is written at the end of a bake's name: '@' and a number from 0 to 2 with at most two decimals"
)

_MARK = re.compile(r"@(?!\{)")  # `@{1}` is a revision: see `history/revisions.py`
_STRENGTH = re.compile(r"[0-2](\.[0-9]{1,2})?\Z")
_SUFFIXES = tuple("" if hundredths == 100 else f"@{hundredths / 100:g}" for hundredths in range(201))


def split_strength(name: str) -> tuple[str, float | None]:
    """A model's name without the `@<strength>` at its end, and the strength: the factor of the adapter's update.

    The strength is 1 if the name has no `@` (but for `@{`), and None if the text after it breaks `STRENGTH_RULE`.
    """
    mark = _MARK.search(name)
    if mark is None:
        return name, 1.0
    model, strength = name[: mark.start()], name[mark.end() :]
    is_valid = _STRENGTH.match(strength) is not None and float(strength) <= MAX_STRENGTH
    return model, float(strength) if is_valid else None


def at_strength(name: str, strength: float) -> str:
    """The one name of adapter `name` at a strength from `split_strength`; at strength 1 it is `name` itself."""
    return f"{name}{_SUFFIXES[round(100 * strength)]}"


def at_all_strengths(name: str) -> Iterator[str]:
    """The names of adapter `name` at every strength."""
    return (f"{name}{suffix}" for suffix in _SUFFIXES)


# Error messages about names

MAX_COMPARED, MAX_RANKED = 500, 32


def shortened(name: str) -> str:
    """`name`, cut for use in a message: a client may send megabytes of it."""
    return name if len(name) <= MAX_MODEL_NAME else f"{name[:64]}..."


def nearest(name: str, known: Iterable[str], count: int, cutoff: float = 0.0) -> list[str]:
    """The `count` known names that are most similar to `name`, best first, of a similarity (0 to 1) from `cutoff` up.

    The cost is bounded however many are known, because it blocks all other requests: only the first 500 known names
    are read, and only the 32 that share the longest beginning with `name` go to difflib, which takes half a
    millisecond per name.
    """
    name = shortened(name)

    def common_length(other: str) -> int:
        return len(os.path.commonprefix((name, other)))  # noqa: RUF071 - characters are what is meant

    candidates = heapq.nlargest(MAX_RANKED, islice(known, MAX_COMPARED), key=common_length)
    return difflib.get_close_matches(name, candidates, n=count, cutoff=cutoff)


def held_back_message(name: str, checkpoints: list[str]) -> str:
    """The error for a bake's name that means no checkpoint because `publish_if` held back all of them."""
    return (
        f"The model {name!r} means none of its checkpoints yet: publish_if holds them back, and the bake's status "
        f"gives the reason. Use a checkpoint's own name ({', '.join(checkpoints[:3])}), or promote one"
    )


# Base models

DEFAULT_ALIASES = ("Qwen/Qwen3-32B",)
"""The base model that our users' scripts and the clients' defaults name, though few machines can serve it."""


class BaseModelNames(msgspec.Struct, frozen=True):
    served: str
    """The served base model's own name."""
    stands_in: bool
    """True for the embedded model: it answers in place of base models that are not served here, and responses say so.
    If the operator chose a model, such requests get an error instead."""
    aliases: tuple[str, ...] = DEFAULT_ALIASES
    """Names that the embedded model also answers to in chat."""

    def is_served(self, name: str) -> bool:
        return name == self.served

    def is_alias(self, name: str) -> bool:
        return self.stands_in and name in self.aliases
