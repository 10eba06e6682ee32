"""Copies commits from one place to another: parents before children, weights before their commit, names last.

A place is a repo on a server, a folder, or a repo on Hugging Face's hub. A copy that broke goes on: what the target has
is not sent again, and an adapter continues where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from gateway.cli.client import Unreachable
from gateway.cli.failures import CliError, Exit

TRIES = 4
PAUSE_SECONDS = 1.0
"""Attempts at one adapter, and the wait between them."""

Record = dict[str, Any]
"""A commit as `GET /commits/{id}/description` answers it."""


class Ref(NamedTuple):
    kind: Literal["branch", "tag"]
    commit: str
    is_bake: bool = False
    """Whether a bake has the name there. It arrives as a branch."""


class Node(NamedTuple):
    """A commit in a graph."""

    adapter: str
    parents: tuple[str, ...]


class Move(NamedTuple):
    """A name to create or move."""

    name: str
    ref: Ref
    before: str | None
    """The commit that it means there; None: it is new."""


class Place(Protocol):
    label: str
    """How people know it: its URL."""

    def exists(self) -> bool: ...

    def create(self) -> None: ...

    def refs(self) -> dict[str, Ref]:
        """Branches, tags and bakes by name."""
        ...

    def head(self) -> str | None:
        """Name of the current branch."""
        ...

    def history(self) -> Mapping[str, Node]:
        """All commits."""
        ...

    def record(self, commit: str, *, with_data: bool) -> Record: ...

    def blob_size(self, sha256: str) -> int: ...

    def read_blob(self, sha256: str, offset: int) -> Iterator[bytes]: ...

    def missing(self, commits: list[str], blobs: list[str]) -> tuple[set[str], set[str]]:
        """Those that are not here."""
        ...

    def offer_blob(self, sha256: str, size: int) -> int:
        """Number of its bytes that are here. Raises: CliError if it may not come."""
        ...

    def write_blob(self, sha256: str, size: int, offset: int, chunks: Iterable[bytes]) -> None: ...

    def write_commit(self, record: Record) -> None: ...

    def move(self, moves: list[Move], *, force: bool) -> None:
        """Move the names, if each still means what it meant before."""
        ...


class Report(Protocol):
    """Hears how a copy gets on."""

    def plan(self, commits: int) -> None: ...

    def commit_done(self) -> None: ...

    def bytes_done(self, number: int) -> None: ...


class Copied(NamedTuple):
    commits: int
    adapters: int
    size: int
    """Bytes of adapters that were sent."""
    without_recipe: int = 0
    """Commits whose recipe was asked for and is not there."""


def copy(
    source: Place, target: Place, tips: Collection[str], *, with_data: bool, report: Report, history: Mapping[str, Node]
) -> Copied:
    """Copy the commits and all that they came from. Args: history: the source's. Raises: CliError."""
    order = parents_first(history, tips)
    blobs = list(dict.fromkeys(history[commit].adapter for commit in order))
    missing_commits, missing_blobs = target.missing(order, blobs)
    # The target may have dropped the weights of older versions on purpose; those of a tip are wanted.
    wanted = [
        each for each in order if each in missing_commits or (each in tips and _lacks(each, history, missing_blobs))
    ]
    report.plan(len(wanted))
    commits = adapters = size = without_recipe = 0
    for commit in wanted:
        record, adapter = source.record(commit, with_data=with_data), history[commit].adapter
        if record["id"] != commit or record["description"].get("adapter") != adapter:
            raise CliError(f"{source.label} describes commit {commit[:12]} as another one: the source is damaged")
        if record["has_weights"] and adapter in missing_blobs:
            size += _copy_blob(source, target, adapter, report)
            missing_blobs.discard(adapter)
            adapters += 1
        elif commit not in missing_commits:
            continue
        target.write_commit(record)
        commits += 1
        named = record["description"].get("recipe")
        without_recipe += with_data and named is not None and not (record.get("data") or {}).get("recipe")
        report.commit_done()
    return Copied(commits, adapters, size, without_recipe)


def _lacks(commit: str, history: Mapping[str, Node], missing_blobs: Collection[str]) -> bool:
    return history[commit].adapter in missing_blobs


def _copy_blob(source: Place, target: Place, sha256: str, report: Report) -> int:
    """Returns: bytes sent."""
    size, sent = source.blob_size(sha256), 0

    def counted(chunks: Iterator[bytes], left: int) -> Iterator[bytes]:
        nonlocal sent
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise CliError(f"{source.label} sends more than the {size} bytes that it announced for {sha256[:12]}")
            sent += len(chunk)
            report.bytes_done(len(chunk))
            yield chunk

    for attempt in range(1, TRIES + 1):
        try:
            offset = target.offer_blob(sha256, size)
            if offset < size:
                target.write_blob(sha256, size, offset, counted(source.read_blob(sha256, offset), size - offset))
        except Unreachable as error:
            if attempt == TRIES:
                raise CliError(f"{error.message}; the same command goes on where this one stopped") from error
            time.sleep(PAUSE_SECONDS)
        else:
            return sent
    raise AssertionError


def parents_first(history: Mapping[str, Node], tips: Iterable[str]) -> list[str]:
    """The commits and their ancestors, each after its parents. Raises: CliError if one is missing, or in a circle."""
    order: dict[str, None] = {}
    open_ones: set[str] = set()
    stack = [(tip, False) for tip in tips]
    while stack:
        commit, are_parents_done = stack.pop()
        if are_parents_done:
            open_ones.discard(commit)
            order[commit] = None
        elif commit in open_ones:
            raise CliError(f"commit {commit[:12]} is its own ancestor there: the source is damaged, nothing was copied")
        elif commit not in order:
            if commit not in history:
                raise CliError(
                    f"commit {commit[:12]} is not there, but others came from it, so they can't be copied: "
                    "it may be in another user's repo",
                    Exit.CONFLICT,
                )
            open_ones.add(commit)
            stack.append((commit, True))
            stack += [(parent, False) for parent in history[commit].parents]
    return list(order)


def is_ancestor(history: Mapping[str, Node], old: str, new: str) -> bool:
    """Whether `new` came from `old`, or is it."""
    seen, stack = set(), [new]
    while stack:
        commit = stack.pop()
        if commit == old:
            return True
        if commit not in seen:
            seen.add(commit)
            stack += history[commit].parents if commit in history else ()
    return False


def check_fast_forwards(moves: Iterable[Move], history: Mapping[str, Node], *, way_out: Callable[[str], str]) -> None:
    """Args: history: where the new commits are; way_out: what to do, for a name. Raises: CliError."""
    for move in moves:
        if move.before is None or move.before == move.ref.commit:
            continue
        if move.ref.kind == "tag":
            raise CliError(
                f"rejected: tag {move.name} is {move.before[:12]} there, and a tag never moves: choose another name",
                Exit.CONFLICT,
            )
        if not is_ancestor(history, move.before, move.ref.commit):
            raise CliError(
                f"rejected (non-fast-forward): {move.name} is at {move.before[:12]}, which {move.ref.commit[:12]} did "
                f"not come from: {way_out(move.name)}",
                Exit.CONFLICT,
            )
