"""Takes operations back, and brings them back: undo and redo.

Both invert an operation: undo the last one that is in force, redo the last undo. `plan` says what that needs, so that
the caller can check that the engine serves it; `apply` then does it in one transaction, or raises and changes nothing.

Functions over the catalog; they block (see `storage/one_thread.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from baker.errors import ConflictError
from baker.history import undo_stack
from baker.history.operation_table import Change, ChangeKind, Operation
from baker.history.ref_table import Ref
from baker.history.revisions import RepoView
from baker.history.summary import summary
from baker.history.undo_stack import Entry
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.repos.pointers import Pointer
from baker.repos.repo_view import repo_view
from baker.types import Checkpoint
from baker.versions import inverses

SERVED: tuple[ChangeKind, ...] = ("bake", "branch", "tag")
"""Kinds of names that requests may use."""


class Plan(NamedTuple):
    user: str
    repo: str
    verb: str
    """`undo` or `redo`."""
    entries: list[Entry]
    """What to step over, in order."""
    checkpoints: list[Checkpoint]
    """Checkpoints that names will mean: the engine must be able to serve them."""


class Meaning(NamedTuple):
    """A bake after an undo or redo."""

    bake: str
    newest_first: list[Checkpoint]
    latest_moved_first: list[Checkpoint]


class Done(NamedTuple):
    operations: list[Operation]
    """The new operations, oldest first."""
    meanings: list[Meaning]
    """Of the bakes that changed."""
    view: RepoView
    """The repo's names and commits afterwards."""


def plan(catalog: Catalog, user: str, repo: str, verb: str, number: int | None = None) -> Plan:
    """What an undo or redo (`verb`) steps over. Args: number: of the last operation; None: one step.

    Raises: NotFoundError; ConflictError if there is nothing to do or it can't be done.
    """
    catalog.repo(user, repo)
    entries = _steps(catalog, user, repo, verb, number)
    meant = {change.name: (entry, change) for entry in entries for change in _inverted(entry) if change.kind in SERVED}
    found = [_checkpoint(catalog, user, repo, entry, change) for entry, change in meant.values()]
    return Plan(user, repo, verb, entries, [each for each in found if each is not None and each.is_served])


def _steps(catalog: Catalog, user: str, repo: str, verb: str, number: int | None) -> list[Entry]:
    """As `undo_stack.steps`. Reads the changes of these operations only."""
    table = catalog.history.operations
    entries = undo_stack.steps(table.outline(user, repo), verb, number)
    return [Entry(*(table.get(user, repo, each.id) for each in entry)) for entry in entries]


def _inverted(entry: Entry) -> list[Change]:
    return [Change(each.kind, each.name, each.after, each.before) for each in entry.applied.changes]


def _checkpoint(catalog: Catalog, user: str, repo: str, entry: Entry, change: Change) -> Checkpoint | None:
    if change.after is None:
        return None
    if change.kind != "bake":
        return catalog.store.checkpoints.of_commit(user, repo, msgspec.convert(change.after, Ref).target)
    step = msgspec.convert(change.after, Pointer).step
    known = bakes.find_checkpoint(catalog, user, repo, change.name, step)
    return known or catalog.store.checkpoints.in_bin(entry.applied.id, change.name, step)


def apply(catalog: Catalog, planned: Plan) -> Done:
    """Do what was planned, and record it: one operation for each step.

    Raises: ConflictError if other operations came first, something changed that these would overwrite, a job is active
        on it, or something they need is gone.
    """
    user, repo, verb = planned.user, planned.repo, planned.verb
    numbers = []
    with catalog.store.transaction():
        catalog.repo(user, repo)
        if _steps(catalog, user, repo, verb, planned.entries[-1].operation.id) != planned.entries:
            raise ConflictError(f"Another operation came first: ask for the {verb} again")
        for entry in planned.entries:
            changes = _inverted(entry)
            number = catalog.history.log.record(user, repo, verb, changes, target=entry.operation.id)
            assert number is not None, "an operation changes something, and so does its inverse"
            try:
                inverses.apply(catalog, user, repo, changes, restores=entry.applied.id, operation=number)
            except ConflictError as error:
                what = summary(entry.operation, {})
                raise ConflictError(f"Can't {verb} operation {entry.operation.id} ({what}): {error.message}") from error
            numbers.append(number)
        changes = [change for entry in planned.entries for change in entry.applied.changes]
        touched = {bake: None for change in changes for bake in _bakes_of(catalog, user, repo, change)}
        done = [catalog.history.operations.get(user, repo, number) for number in numbers]
        view = repo_view(catalog, user, repo)
        return Done(done, meanings(catalog, user, repo, [*touched]), view)


def _bakes_of(catalog: Catalog, user: str, repo: str, change: Change) -> list[str]:
    """The bakes whose checkpoints a change brings or takes."""
    if change.kind == "commit":
        return catalog.store.checkpoints.bakes_of_commit(user, repo, change.name)
    return [change.name] if change.kind in ("bake", "bake-config") else []


def meanings(catalog: Catalog, user: str, repo: str, names: Sequence[str]) -> list[Meaning]:
    """What the bakes' names mean now."""
    return [
        Meaning(
            name,
            [each for each in bakes.checkpoints(catalog, user, repo, name) if each.is_served],
            [
                move.checkpoint
                for move in catalog.store.checkpoints.moves(user, repo, name)
                if move.checkpoint.is_served
            ],
        )
        for name in names
    ]
