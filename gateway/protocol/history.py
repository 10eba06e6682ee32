"""Bodies of the routes of a repo's history."""

from typing import Any

from gateway.protocol.requests import Body as RequestBody
from gateway.protocol.responses import Body


class Step(RequestBody, frozen=True, kw_only=True):
    """For undo and redo."""

    operation: int | None = None
    """Step until this operation is undone, or done again. By default, one step."""


class Prune(RequestBody, frozen=True, kw_only=True):
    prune: bool = False
    """Remove for good, now, and empty the repo's bin, instead of taking things to the bin."""


class Change(Body, frozen=True, kw_only=True):
    """One thing that an operation changed."""

    kind: str
    """`bake` (what the name means), `branch`, `tag`, `head`, `remote`, `prompt`, `target`, `bake-config`, `template`,
    `probe`, or `commit`."""
    name: str
    before: Any
    """Its value; null if it did not exist."""
    after: Any
    """Its value; null if it no longer exists."""


class Operation(Body, frozen=True, kw_only=True):
    id: int
    verb: str
    summary: str
    """One plain line, such as `promote yoda: 64 -> 128`."""
    changes: list[Change]
    by: str
    """Id of the user who asked for it; `admin` for the master key."""
    created: int
    """Unix seconds."""
    target: int | None
    """Number of the operation that an undo or redo is about."""
    undoable: bool


class OperationPage(Body, frozen=True, kw_only=True):
    operations: list[Operation]
    """Newest first."""
    undo: int | None
    """Number of the operation that an undo takes back next; null if there is none that can be."""
    redo: int | None
    """Number of the operation that a redo brings back next."""


class UnreachableVersion(Body, frozen=True, kw_only=True):
    commit: str
    bytes: int
    """Size of its files; 0 if only its description is here."""
    since: int
    """Unix seconds of the version."""


class BinItem(Body, frozen=True, kw_only=True):
    kind: str
    """`bake`, or the stage of a target's job: `stim`, `rollout`."""
    name: str
    operation: int
    """Number of the operation that deleted it."""
    bytes: int
    deleted: int
    """Unix seconds, like `until`."""
    until: int
    """When it is removed for good."""


class Garbage(Body, frozen=True, kw_only=True):
    unreachable: list[UnreachableVersion]
    """Versions that nothing needs."""
    bin: list[BinItem]
    """What was deleted, and an undo can bring back."""
    freed_bytes: int
    """What this request freed: 0 unless it was sent with `prune`."""
