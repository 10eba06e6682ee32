"""Bodies of the routes of a repo's history."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.protocol.requests import Body as RequestBody
from gateway.protocol.responses import Body


class NameKind(StrEnum):
    """What a name of a repo is."""

    BAKE = "bake"
    BRANCH = "branch"
    TAG = "tag"
    REMOTE = "remote"
    """What another server's name meant when that was last asked."""


# Commits


class Parent(Body, frozen=True, kw_only=True):
    id: str
    weight: float
    """Its share in a merge; 1 for the parent that a bake began from."""


class CommitRef(Body, frozen=True, kw_only=True):
    """A name that means the commit."""

    name: str
    kind: NameKind
    is_head: bool


class Commit(Body, frozen=True, kw_only=True):
    """One version of the weights."""

    id: str
    """SHA-256 (hex) of its description: the same id on two servers is the same version."""
    short_id: str
    """The first 12 digits."""
    kind: str
    """`bake`, `import`, `merge`, `cherry-pick` or `revert`."""
    message: str
    author: str
    """Id of a user."""
    created: int
    """Unix seconds."""
    adapter: str
    """SHA-256 (hex) of the adapter's files."""
    recipe: str | dict[str, Any] | None
    """In lists, the SHA-256 (hex) of the settings, prompts and targets that made it; for one commit, these themselves.
    Null for imports."""
    base: str
    """Fingerprint (hex) of the base model."""
    parents: list[Parent]
    """The first one is the version that it continues; none: the base model."""
    refs: list[CommitRef]
    model: str | None
    """Name of the model, `user/repo/bake/step`; null if its weights are not here."""
    notes: dict[str, Any]
    """What is known about it and may change, such as `evaluation`."""


class CommitPage(Body, frozen=True, kw_only=True):
    commits: list[Commit]
    """Newest first, children before their parents."""
    next: str | None
    """`after` of the next page; null on the last one."""


# Branches, tags, HEAD


class Ref(Body, frozen=True, kw_only=True):
    name: str
    kind: NameKind
    commit: str
    """Id."""
    model: str | None
    """Name to chat with; null for names of other servers, and if the weights are not here."""
    message: str
    created: int
    """Unix seconds, like `updated`."""
    updated: int
    is_head: bool
    """Whether it is the current branch."""


class RefList(Body, frozen=True, kw_only=True):
    refs: list[Ref]
    head: str | None
    """Name of the current branch."""


class RefPut(RequestBody, frozen=True, kw_only=True):
    kind: Literal["branch", "tag"]
    to: str = "HEAD"
    """Revision that it is to mean."""
    message: Annotated[str, msgspec.Meta(max_length=10_000)] = ""
    expected: str | UnsetType | None = msgspec.field(default=UNSET, name="from")
    """Id of the commit that it must mean now; null: it must not exist yet. Absent: it may mean anything."""
    force: bool = False
    """Whether a branch may move to a version that did not come from the one that it means."""


class Head(Body, frozen=True, kw_only=True):
    branch: str | None
    commit: str | None


class HeadPut(RequestBody, frozen=True, kw_only=True):
    branch: str


# Operations, undo, gc


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


# Status


class ActiveJob(Body, frozen=True, kw_only=True):
    number: int
    stage: str
    name: str
    state: str
    progress_percent: float


class Status(Body, frozen=True, kw_only=True):
    repo: str
    base_model: str
    head: str | None
    """Name of the current branch."""
    refs: int
    """Number of bakes, branches, tags and names of other servers that mean a version."""
    commits: int
    jobs: list[ActiveJob]
    undo: Operation | None
    """What an undo takes back next; null if there is nothing that can be."""
    redo: Operation | None
    """What a redo brings back next."""
