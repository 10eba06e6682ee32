"""A commit: one version of the weights, described completely, and named by the hash of that description.

Names of bakes, branches and tags, evaluations and certificates are not part of a commit: they may change. So a commit
has the same id on every server, and an id that was received can be checked.
"""

import hashlib
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """How the weights of a commit were made."""

    BAKE = "bake"
    IMPORT = "import"
    MERGE = "merge"
    CHERRY_PICK = "cherry-pick"
    REVERT = "revert"


class Parent(msgspec.Struct, frozen=True):
    id: str
    weight: float = 1.0
    """Its share in a merge; 1 for the parent that a bake began from."""


class Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Kind
    adapter: str
    """SHA-256 (hex) of the adapter's files: see `adapters.files.content_hash`."""
    recipe: str | None
    """SHA-256 (hex) of the canonical JSON of the settings, prompts and targets that made it; None for imports."""
    base: str
    """Fingerprint (hex) of the base model: see `adapters.base_fingerprint`."""
    message: str
    author: str
    """Id of the user who made it."""
    created: int
    """Unix seconds."""
    parents: tuple[Parent, ...] = ()
    """The first one is the version that it continues; none: the base model."""

    @property
    def id(self) -> str:
        """SHA-256 (hex) of the canonical JSON: sorted keys, no spaces, UTF-8."""
        return content_id(msgspec.to_builtins(self))

    @property
    def parent_ids(self) -> tuple[str, ...]:
        return tuple(parent.id for parent in self.parents)


def content_id(content: object) -> str:
    """SHA-256 (hex) of `content` as canonical JSON: sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(canonical(content)).hexdigest()


def canonical(content: object) -> bytes:
    """`content` as JSON with sorted keys and without spaces: equal contents give equal bytes."""
    return msgspec.json.encode(content, order="sorted")
