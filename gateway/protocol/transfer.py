"""Bodies of the routes that copy commits between servers."""

from typing import Annotated, Any, Literal

import msgspec

MOST_ASKED = 10_000
"""Commits, adapters or names in one request."""

Ids = Annotated[list[str], msgspec.Meta(max_length=MOST_ASKED)]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Have(Body, frozen=True, kw_only=True):
    commits: Ids = []
    blobs: Ids = []
    """SHA-256 of adapters."""


class Missing(Body, frozen=True, kw_only=True):
    missing_commits: list[str]
    missing_blobs: list[str]


class Blob(Body, frozen=True, kw_only=True):
    """An adapter that was sent, or a part of it."""

    sha256: str
    size: int
    """Bytes that are here: the rest begins there."""
    is_complete: bool


class CommitData(Body, frozen=True, kw_only=True):
    """What made a version. It holds prompts, so it travels only on request."""

    recipe: dict[str, Any] | None = None
    rows: dict[str, list[Any]] = {}
    """Target -> its questions and answers."""


class CommitDescription(Body, frozen=True, kw_only=True):
    """A commit to copy. The SHA-256 of `description` as canonical JSON is the id."""

    id: str
    description: dict[str, Any]
    notes: dict[str, Any]
    has_weights: bool
    """Whether the adapter is here; false for a version of which only the description is kept."""
    data: CommitData | None = None


class CommitPut(Body, frozen=True, kw_only=True):
    description: dict[str, Any]
    notes: dict[str, Any] = {}
    """The evaluation and the like; `parity` is the certificate, which the engine must reproduce."""
    data: CommitData | None = None
    is_shallow: bool = False
    """Whether the sender has no weights of it."""


class CommitReceived(Body, frozen=True, kw_only=True):
    id: str
    added: bool
    """False if it was here already."""


class RemotePut(Body, frozen=True, kw_only=True):
    url: str


class RemoteRefs(Body, frozen=True, kw_only=True):
    refs: Annotated[dict[str, str | None], msgspec.Meta(max_length=MOST_ASKED)]
    """Name on the remote -> id of its commit; null: it is gone there."""
    verb: Literal["push", "fetch"] = "fetch"
    """What the client did to know it."""


class Remote(Body, frozen=True, kw_only=True):
    name: str
    url: str
    refs: dict[str, str]
    """Its names when it was last asked; here they are `<remote>/<name>`."""
    created: int
    """Unix seconds, like `updated`."""
    updated: int


class RemoteList(Body, frozen=True, kw_only=True):
    remotes: list[Remote]
