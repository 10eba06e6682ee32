"""The bin: what was deleted within the last days, and can still be brought back by `undo`.

A deletion marks the rows of jobs and checkpoints with its operation's number, and leaves their files. `sweep` removes
both after `KEPT_SECONDS`. Configs and prompts need no rows of their own: the operation has them.

Functions over the catalog, to be called in a transaction; they block (see `storage/one_thread.py`).
"""

import time

from baker.history.operation_table import ChangeKind
from baker.repos import records
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.storage.bin_table import Binned

KEPT_SECONDS = 7 * 24 * 3600
STAGES: dict[ChangeKind, tuple[Stage, ...]] = {"target": (Stage.STIM, Stage.ROLLOUT), "bake-config": (Stage.BAKE,)}
"""Kind of change -> the stages of the jobs that go with it."""


def sweep(catalog: Catalog, now: float | None = None) -> list[int]:
    """Remove what was deleted more than `KEPT_SECONDS` ago, of all users.

    Args: now: Unix seconds; None: the time now.
    Returns: the numbers of the jobs whose files may be removed.
    """
    expired = (time.time() if now is None else now) - KEPT_SECONDS
    with catalog.store.transaction():
        return _drop(catalog, [binned for binned in catalog.store.bin.all() if binned.deleted <= expired])


def empty(catalog: Catalog, user: str, repo: str) -> list[int]:
    """Remove all that the repo has in the bin. Returns: see `sweep`."""
    return _drop(catalog, catalog.store.bin.of_repo(user, repo))


def purge(catalog: Catalog, user: str, repo: str, kind: ChangeKind, name: str) -> list[int]:
    """Remove what the bin has under this name, and its text from all operations, which can't be undone after that.

    Returns: see `sweep`.
    """
    for operation in catalog.history.operations.touching(user, repo, kind, name):
        catalog.history.operations.purge(operation, kind, name)
    if kind == "bake-config":
        for operation in catalog.history.operations.touching(user, repo, "bake", name):
            catalog.history.operations.forbid_undo(operation.id)
    named = [
        binned
        for binned in catalog.store.bin.of_repo(user, repo)
        if binned.name == name and binned.stage in STAGES.get(kind, ())
    ]
    return _drop(catalog, named)


def _drop(catalog: Catalog, binned: list[Binned]) -> list[int]:
    for operation in {each.operation for each in binned}:
        catalog.history.operations.forbid_undo(operation)
    jobs = [each.job for each in binned]
    catalog.store.bin.drop(jobs)
    return sorted({*jobs, *records.sweep(catalog)}) if jobs else []
