"""What a bake's name means, as a value that operations record and undo restores.

Functions over the catalog, to be called in a transaction; they block (see `storage/one_thread.py`).
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import msgspec

from baker.errors import ConflictError
from baker.history.operation_table import Change
from baker.repos.catalog import Catalog, plain
from baker.types import MovedBy


class Pointer(msgspec.Struct, frozen=True):
    """The value of a change of kind `bake`."""

    step: int
    """Step of the checkpoint that the name means."""
    commit: str | None
    """Id of that checkpoint's commit."""
    job: int
    """Number of the job that wrote it."""
    moves: list[tuple[int, MovedBy]]
    """Step and reason of the name's last move to each existing checkpoint, latest first."""


def pointer(catalog: Catalog, user: str, repo: str, bake: str) -> Pointer | None:
    """None if the name means no checkpoint."""
    moves = catalog.store.checkpoints.moves(user, repo, bake)
    if not moves:
        return None
    live = moves[0].checkpoint
    return Pointer(live.step, live.commit_id, live.job_id, [(move.checkpoint.step, move.by) for move in moves])


def same(one: Pointer | None, other: Pointer | None) -> bool:
    """Whether both mean the same checkpoint."""
    if one is None or other is None:
        return one is other
    return one.step == other.step and _is_same_commit(one.commit, other.commit)


def _is_same_commit(one: str | None, other: str | None) -> bool:
    """Checkpoints of older versions have no commit until the service starts."""
    return one is None or other is None or one == other


def restore(catalog: Catalog, user: str, repo: str, bake: str, value: Pointer | None) -> None:
    """Give the name the meaning of before, with the moves that led to it. Raises: ConflictError if that is gone."""
    known = {checkpoint.step: checkpoint for checkpoint in catalog.store.checkpoints.of_bake(user, repo, bake)}
    if value is not None and (
        value.step not in known or not _is_same_commit(known[value.step].commit_id, value.commit)
    ):
        raise ConflictError(f"'{repo}/{bake}' can't mean checkpoint {value.step} again: its files were removed")
    catalog.store.checkpoints.forget_moves(user, repo, bake)
    for step, by in reversed([] if value is None else value.moves):
        if step in known:
            catalog.store.checkpoints.move_name(known[step], by)


@contextmanager
def recorded(catalog: Catalog, user: str, repo: str, bake: str, verb: str, *, job: int | None = None) -> Iterator[None]:
    """Record how the block moves the bake's name; nothing if it means the same after it.

    Args: job: number of a job that trains. Its moves are one operation, which begins with its first one.
    """
    before = pointer(catalog, user, repo, bake)
    yield
    after = pointer(catalog, user, repo, bake)
    if same(before, after):
        return
    change = [Change("bake", bake, plain(before), plain(after))]
    earlier = catalog.history.operations.touching(user, repo, "bake", bake)
    latest = earlier[-1] if earlier else None
    if latest is not None and latest.verb == verb and job is not None and written_by(latest.changes, bake) == job:
        catalog.history.log.record_more(latest, change)
    else:
        catalog.history.log.record(user, repo, verb, change)


def written_by(changes: list[Change], bake: str) -> int | None:
    """Number of the job that wrote the checkpoint that the bake's name means after the changes."""
    after = next((change.after for change in changes if (change.kind, change.name) == ("bake", bake)), None)
    return None if after is None else msgspec.convert(after, Pointer).job


def backfill(catalog: Catalog, bakes: Collection[tuple[str, str, str]]) -> None:
    """Record the moves that an older version made: the last one to each checkpoint, in their order.

    Args: bakes: user, repo and name of each; those with recorded moves are left out.
    """
    table = catalog.history.operations
    unknown = {key for key in bakes if not table.touching(*key[:2], "bake", key[2])}
    values: dict[tuple[str, str, str], Pointer] = {}
    for live in reversed(catalog.store.checkpoints.all_moved()):
        key = (live.user, live.repo, live.bake)
        if key not in unknown:
            continue
        before = values.get(key)
        by = {move.checkpoint.step: move.by for move in catalog.store.checkpoints.moves(*key)}[live.step]
        moves = [(live.step, by), *([] if before is None else before.moves)]
        values[key] = Pointer(live.step, live.commit_id, live.job_id, moves)
        change = Change("bake", live.bake, plain(before), plain(values[key]))
        table.add(live.user, live.repo, by, [change], by=live.user, created=live.created)


@contextmanager
def taken_back(catalog: Catalog, user: str, repo: str, bake: str, job: int) -> Iterator[None]:
    """Record that the block removes a job's checkpoints, because the engine does not serve the last one as trained.

    If nothing moved the name since, this takes back the job's operation, as an undo that nothing brings back.
    """
    before = pointer(catalog, user, repo, bake)
    earlier = catalog.history.operations.touching(user, repo, "bake", bake)
    yield
    after = pointer(catalog, user, repo, bake)
    if same(before, after):
        return
    is_own = bool(earlier) and earlier[-1].verb == MovedBy.BAKE and written_by(earlier[-1].changes, bake) == job
    change = Change("bake", bake, plain(before), plain(after))
    target = earlier[-1].id if is_own else None
    catalog.history.log.record(user, repo, "discard", [change], target=target, is_undoable=False)
