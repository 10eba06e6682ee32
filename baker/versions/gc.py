"""Garbage collection: versions that nothing needs any more, and the files that go with them.

A version is reached by branches and tags of any of the user's repos, HEAD and remote-tracking names, by bakes that
exist, by operations of the last 30 days, by active jobs, by what the bin can bring back, and by the versions that came
from it, in any repo. A version that just arrived from another server is kept too.

Functions over the catalog; they block (see `storage/one_thread.py`).
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from baker.errors import ConflictError
from baker.history.commit import Commit
from baker.history.operation_table import Change
from baker.repos import bakes, records, recycle_bin
from baker.repos.catalog import Catalog, plain
from baker.types import Checkpoint

REMEMBERED_SECONDS = 30 * 24 * 3600
"""How long an operation keeps the versions that it names."""
ARRIVAL_SECONDS = 24 * 3600
"""How long a version that came from another server is kept without a name: names come last, and the copy may break."""


class Unreachable(NamedTuple):
    commit_id: str
    commit: Commit
    checkpoint: Checkpoint | None
    """Its weights; None if they are not here."""


def unreachable(catalog: Catalog, user: str, repo: str, now: float | None = None) -> list[Unreachable]:
    """Versions that nothing reaches, oldest first. Raises: NotFoundError if there is no such repo.

    Args: now: Unix seconds; None: the time now.
    """
    catalog.repo(user, repo)
    known = catalog.history.commits.of_repo(user, repo)
    kept = _reached(known, _roots(catalog, user, repo, time.time() if now is None else now))
    own = set(catalog.store.names("bakes", user, repo))
    weights = {
        each.commit_id: each
        for each in catalog.store.checkpoints.of_user(user)
        if each.repo == repo and each.bake not in own
    }
    return [Unreachable(name, commit, weights.get(name)) for name, commit in known.items() if name not in kept]


def _reached(known: dict[str, Commit], roots: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    queue = [*roots]
    for name in queue:  # it grows while it is walked
        if name in known and name not in reached:
            reached.add(name)
            queue += known[name].parent_ids
    return reached


def _roots(catalog: Catalog, user: str, repo: str, now: float) -> Iterator[str]:
    yield from (ref.target for ref in catalog.history.refs.of_repo(user, repo))
    yield from catalog.history.refs.targets(user)
    yield from catalog.history.commits.arrived_since(user, repo, now - ARRIVAL_SECONDS)
    own = set(catalog.store.names("bakes", user, repo))
    for checkpoint in catalog.store.checkpoints.of_user(user):
        # Received before arrivals were noted, a version is as old as its checkpoint.
        is_kept = checkpoint.bake in own or checkpoint.created > now - ARRIVAL_SECONDS
        if checkpoint.repo == repo and checkpoint.commit_id is not None and is_kept:
            yield checkpoint.commit_id
    yield from catalog.store.bin.commits(user, repo)
    for operation in catalog.history.operations.since(user, repo, now - REMEMBERED_SECONDS):
        for change in operation.changes:
            if change.kind != "commit":
                yield from (name for value in (change.before, change.after) for name in _named(value))
    for name in bakes.checkpoints_in_use(catalog) | records.needed(catalog).checkpoints:
        if (commit_id := catalog.store.checkpoints.commit_of(name)) is not None:
            yield commit_id
    yield from catalog.history.commits.parents_elsewhere(user, repo)


def _named(value: Any) -> Iterator[str]:
    """Ids of commits in a value of an operation: a pointer's, a ref's, or that of another server's name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (value[key] for key in ("commit", "target") if isinstance(value.get(key), str))


class Collected(NamedTuple):
    operation: int | None
    """Number of the operation; None if there was nothing to remove."""
    checkpoints: list[Checkpoint]
    """That no name means any more."""
    removed: list[int]
    """Numbers of the jobs whose files may be removed."""


def collect(catalog: Catalog, user: str, repo: str, *, prune: bool, now: float | None = None) -> Collected:
    """Take what is unreachable to the bin. Args: prune: remove it for good, with all that the bin has.

    Raises: NotFoundError if there is no such repo.
    """
    with catalog.store.transaction():
        rubbish = unreachable(catalog, user, repo, now)
        changes = [
            Change("commit", each.commit_id, described(catalog, user, repo, each.commit_id), None) for each in rubbish
        ]
        operation = catalog.history.log.record(user, repo, "gc", changes, is_undoable=not prune)
        gone: list[Checkpoint] = []
        if operation is not None:
            gone = [taken for each in rubbish for taken in take_away(catalog, each, user, repo, operation)]
        return Collected(operation, gone, recycle_bin.empty(catalog, user, repo) if prune else [])


def described(catalog: Catalog, user: str, repo: str, commit_id: str) -> Any:
    """The commit with its notes, as the value of a change; None if it is not here."""
    commit = catalog.history.commits.find(user, repo, commit_id)
    if commit is None:
        return None
    return {"description": plain(commit), "notes": catalog.history.commits.notes(user, repo, commit_id)}


def bring_back(catalog: Catalog, user: str, repo: str, value: Any) -> None:
    """Add the commit and its notes again. Args: value: see `described`."""
    commit_id = catalog.history.commits.add(user, repo, msgspec.convert(value["description"], Commit))
    for key, note in value["notes"].items():
        catalog.history.commits.put_note(user, repo, commit_id, key, note)


def take_away(catalog: Catalog, rubbish: Unreachable, user: str, repo: str, operation: int) -> list[Checkpoint]:
    """Take the version to the bin. Returns: the checkpoint that nothing serves any more."""
    catalog.history.commits.remove(user, repo, rubbish.commit_id)
    if rubbish.checkpoint is None:
        return []
    catalog.store.bin.put([rubbish.checkpoint.job_id], operation)
    return [rubbish.checkpoint]


def take_away_again(catalog: Catalog, user: str, repo: str, commit_id: str, operation: int) -> None:
    """For the redo of a gc. Raises: ConflictError if something reaches the version now."""
    rubbish = next((each for each in unreachable(catalog, user, repo) if each.commit_id == commit_id), None)
    if rubbish is None:
        raise ConflictError(f"version {commit_id[:12]} is needed now")
    take_away(catalog, rubbish, user, repo, operation)
