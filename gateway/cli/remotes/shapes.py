"""The form of what other places say. Anybody can run a server or write a folder, so it is checked before it is used."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec

from gateway.cli.failures import CliError

Shape = TypeVar("Shape")
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Named(msgspec.Struct):
    """An entry of `GET /refs`. Names of yet another server have another form, and do not travel."""

    name: str
    kind: str
    commit: str | None


class RefList(msgspec.Struct):
    refs: list[Named]


class Travelling(msgspec.Struct):
    """A bake, branch or tag."""

    name: Name
    kind: str
    commit: Sha256


class Head(msgspec.Struct):
    branch: Name | None


class Parent(msgspec.Struct):
    id: Sha256


class Description(msgspec.Struct):
    """The part of a commit that a copy needs."""

    adapter: Sha256
    parents: list[Parent]

    @property
    def parent_ids(self) -> tuple[str, ...]:
        return tuple(parent.id for parent in self.parents)


class Listed(Description):
    id: Sha256


class CommitPage(msgspec.Struct):
    commits: list[Listed]
    next: Sha256 | None = None


class Record(msgspec.Struct):
    """A commit as `GET /commits/{id}/description` answers it."""

    id: Sha256
    description: dict[str, Any]
    notes: dict[str, Any]
    has_weights: bool
    data: dict[str, Any] | None = None


class Missing(msgspec.Struct):
    missing_commits: list[str]
    missing_blobs: list[str]


class Standing(msgspec.Struct):
    size: int
    is_complete: bool


class Descriptor(msgspec.Struct):
    digest: Digest


class Manifest(msgspec.Struct):
    """Of an OCI image layout."""

    config: Descriptor
    layers: list[Descriptor]


def checked(document: Any, shape: type[Shape], complaint: str) -> Shape:
    """The document as a `shape`. Args: complaint: begins the error's text. Raises: CliError."""
    try:
        return msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        raise CliError(f"{complaint}: {error}") from None


def hash_of(digest: Any) -> str:
    """The hash in `sha256:<hash>`. Raises: CliError."""
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None:
        raise CliError(f"{str(digest)[:100]!r} is no digest of the form sha256:<64 hex digits>")
    return match[1]


def is_name(text: Any) -> bool:
    try:
        msgspec.convert(text, Name)
    except msgspec.ValidationError:
        return False
    return True
