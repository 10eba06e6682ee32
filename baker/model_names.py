"""The spellings of a model's name, and which of them mean the base model."""

import difflib
import heapq
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from baker.names import MASTER_USER, is_name

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


def held_back_message(name: str, checkpoints: list[str]) -> str:
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


DEFAULT_ALIASES = ("Qwen/Qwen3-32B",)
"""What our users' scripts and the clients' defaults name, though few machines hold it."""


class BaseModelNames(msgspec.Struct, frozen=True):
    served: str
    """The base model's own name."""
    stands_in: bool
    """True for the embedded model: it answers for base models that are not here, and says so. An operator who
    chose a model gets an error instead."""
    aliases: tuple[str, ...] = DEFAULT_ALIASES
    """Names that the embedded model answers to, also in chat."""

    def is_served(self, name: str) -> bool:
        return name == self.served

    def is_alias(self, name: str) -> bool:
        return self.stands_in and name in self.aliases
