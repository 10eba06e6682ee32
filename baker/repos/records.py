"""Records of deleted bakes, for the bakes that began from them.

A deleted bake leaves its jobs (settings, copies of targets and prompts, losses, and the file of metrics) and the names
of its checkpoints, marked as deleted, as long as something that exists came from one of these checkpoints: a bake that
began from it, a target that it answered, or the record of such a bake. Its weights go, and its name is free at once: no
name means a record. A checkpoint that is removed alone leaves its name in the same way. So a checkpoint's name is never
given to another one while anything came from it.

Functions over the catalog, to be called in a transaction; they block (see `storage/one_thread.py`).
"""

import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from baker.repos.catalog import Catalog
from baker.storage.home import METRICS, PICTURE_SUFFIX
from baker.storage.job import BakeJob
from baker.types import Checkpoint

MAX_NAME = 100
"""Characters of a bake's name in a label. Names have at most 128."""


class Needed(NamedTuple):
    checkpoints: set[str]
    """Names of the checkpoints that something came from."""
    jobs: set[int]
    """Numbers of the deleted jobs that wrote some of them."""


def needed(catalog: Catalog) -> Needed:
    """What existing rollouts and bakes came from, through all generations."""
    written_by = catalog.store.checkpoints.deleted()
    origins = catalog.store.jobs.origins()
    of_deleted = {origin.job_id: origin.checkpoints for origin in origins if origin.is_deleted}
    names: set[str] = set()
    queue = [name for origin in origins if not origin.is_deleted for name in origin.checkpoints]
    for name in queue:  # it grows while it is walked
        if name not in names:
            names.add(name)
            queue += of_deleted.get(written_by.get(name, 0), [])
    return Needed(names, {written_by[name] for name in names & set(written_by)} & set(of_deleted))


def delete_bakes(catalog: Catalog, user: str, repo: str, bake: str | None = None) -> list[int]:
    """Delete all bakes of the repo, or one; `sweep` decides which records stay. The rows of `bakes` are the caller's.

    Returns: the numbers of their jobs.
    """
    catalog.store.checkpoints.mark_deleted(user, repo, bake)
    return catalog.store.jobs.mark_deleted(user, repo, bake)


def delete_checkpoints(catalog: Catalog, checkpoints: list[Checkpoint]) -> None:
    """Remove the rows of checkpoints of a bake that stays. Those that something came from leave their names."""
    still_needed = needed(catalog).checkpoints if checkpoints else set()
    for checkpoint in checkpoints:
        if checkpoint.name in still_needed:
            catalog.store.checkpoints.mark_deleted(checkpoint.user, checkpoint.repo, checkpoint.bake, checkpoint.step)
        else:
            catalog.store.checkpoints.remove(checkpoint.name)


def sweep(catalog: Catalog) -> list[int]:
    """Remove the records that nothing needs any more. Returns: the numbers of the removed jobs."""
    still = needed(catalog)
    for name in catalog.store.checkpoints.deleted().keys() - still.checkpoints:
        catalog.store.checkpoints.remove(name)
    unneeded = sorted(catalog.store.jobs.deleted_numbers() - still.jobs)
    for number in unneeded:
        catalog.store.jobs.remove_deleted(number)
    return unneeded


def taken_steps(catalog: Catalog, user: str, repo: str, bake: str) -> set[int]:
    """Numbers that no other checkpoint of a bake of that name may get, since something came from those that have or had
    them."""
    prefix = f"{user}/{repo}/{bake}/"
    came_from = {int(name.removeprefix(prefix)) for name in needed(catalog).checkpoints if name.startswith(prefix)}
    return came_from | catalog.store.checkpoints.deleted_steps(user, repo, bake)


def labels(catalog: Catalog, user: str, repo: str) -> dict[int, str]:
    """Number of each deleted bake's job -> its name in the repo's trees and graphs: the bake's own, unless another bake
    has it or had it too."""
    records = catalog.store.jobs.deleted_bakes(user, repo)
    names = Counter([*catalog.store.names("bakes", user, repo), *(record.name for record in records)])
    return {
        record.id: record.name if names[record.name] == 1 else f"{record.name[:MAX_NAME]}.deleted-{record.id}"
        for record in records
    }


def find(catalog: Catalog, user: str, repo: str, label: str) -> BakeJob | None:
    """The job of the deleted bake with this label."""
    by_label = {name: number for number, name in labels(catalog, user, repo).items()}
    return catalog.store.jobs.find_bake(by_label[label]) if label in by_label else None


def strip(folder: Path) -> None:
    """Remove all files of a deleted bake's job but its metrics. Blocks."""
    kept = (METRICS, Path(METRICS).with_suffix(PICTURE_SUFFIX).name)
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in kept:
            path.unlink(missing_ok=True)
