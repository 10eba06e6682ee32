"""Describes checkpoints as commits. Functions over the catalog; they block (see `storage/one_thread.py`)."""

from typing import Any

import msgspec

from baker.history import graph
from baker.history.commit import Commit, Kind, Parent, content_id
from baker.repos import pointers
from baker.repos.catalog import Catalog
from baker.status import JobState, Loss
from baker.storage.job import BakeJob
from baker.types import Checkpoint

EVALUATION = "evaluation"
"""Name of the note with the fields of `baker.status.Loss`."""
MERGE = "merge"
"""Name of the note with the fields of `baker.merge_report.MergeReport`, `base` (id of a commit, or null) and `sides`:
`label`, `commit` and `weight` of each version."""


def recipe_of(job: BakeJob) -> dict[str, Any] | None:
    """What made the bake, as JSON: its settings, its targets with their prompts, and for a merge what was merged.

    None for an import, and for a version that was received without its recipe.
    """
    if job.recipe is not None:
        return job.recipe
    if job.inputs.received is not None:
        return job.inputs.received.recipe
    if job.inputs.imported is not None:
        return None
    config = msgspec.to_builtins(job.config)
    for name in ("message", "branch"):  # they say how the result is named, not how it is made
        config.pop(name)
    targets = {name: msgspec.to_builtins(snapshot) for name, snapshot in job.inputs.targets.items()}
    recipe = {"config": config, "targets": targets}
    if (merge := job.inputs.merge) is not None:
        # The config names revisions, which mean other versions as names move.
        recipe["merge"] = {
            "kind": job.config.merge.meant_kind,
            "strategy": job.config.merge.meant_strategy,
            "base": merge.base_commit,
            "sides": [{"commit": side.commit, "weight": side.weight} for side in merge.sides],
        }
    return recipe


def committed(catalog: Catalog, checkpoint: Checkpoint) -> Checkpoint:
    """Add the commit that describes the checkpoint. Returns: the checkpoint with its commit's id.

    Its parent's commit must be there: see `backfill` for those of older versions.
    """
    job = catalog.store.jobs.find_bake(checkpoint.job_id)
    recipe = None if job is None else recipe_of(job)
    if recipe is not None:
        catalog.store.jobs.update(checkpoint.job_id, recipe=recipe)
    parent = None if checkpoint.parent is None else catalog.store.checkpoints.commit_of(checkpoint.parent)
    if parent is not None and checkpoint.parent is not None:
        _copy_ancestors(catalog, checkpoint, checkpoint.parent.split("/")[1], parent)
    commit = Commit(
        kind=_kind(job),
        adapter=checkpoint.sha256,
        recipe=None if recipe is None else content_id(recipe),
        base=catalog.fingerprint,
        message=(job and job.config.message) or f"{checkpoint.bake} step {checkpoint.step}",
        author=checkpoint.user,
        created=checkpoint.created,
        parents=_parents(job, parent),
    )
    return msgspec.structs.replace(
        checkpoint, commit_id=catalog.history.commits.add(checkpoint.user, checkpoint.repo, commit)
    )


def _kind(job: BakeJob | None) -> Kind:
    if job is None:
        return Kind.BAKE
    if job.inputs.merge is not None:
        return Kind(job.config.merge.meant_kind)
    return Kind.BAKE if job.inputs.imported is None else Kind.IMPORT


def _parents(job: BakeJob | None, first: str | None) -> tuple[Parent, ...]:
    """Args: first: id of the commit that the bake began from."""
    merge = None if job is None else job.inputs.merge
    if merge is not None and _kind(job) is Kind.MERGE:
        return tuple(Parent(side.commit, side.weight) for side in merge.sides)
    return () if first is None else (Parent(first),)


def evaluated(catalog: Catalog, checkpoint: Checkpoint, loss: Loss | None) -> None:
    """Note beside the checkpoint's commit what the bake's evaluations measured; nothing if that is not known."""
    if loss is not None and checkpoint.commit_id is not None and (values := msgspec.to_builtins(loss)):
        catalog.history.commits.put_note(checkpoint.user, checkpoint.repo, checkpoint.commit_id, EVALUATION, values)


def proved(catalog: Catalog, checkpoint: Checkpoint) -> None:
    """Note beside a merge's commit what it merged and measured."""
    job = catalog.store.jobs.find_bake(checkpoint.job_id)
    if job is None or job.merge is None or job.inputs.merge is None or checkpoint.commit_id is None:
        return
    sides = [{"label": side.label, "commit": side.commit, "weight": side.weight} for side in job.inputs.merge.sides]
    note = {**msgspec.to_builtins(job.merge), "base": job.inputs.merge.base_commit, "sides": sides}
    catalog.history.commits.put_note(checkpoint.user, checkpoint.repo, checkpoint.commit_id, MERGE, note)


def _copy_ancestors(catalog: Catalog, checkpoint: Checkpoint, repo: str, tip: str) -> None:
    """Add to the checkpoint's repo the commits that `tip`, in another repo of the same user, came from.

    So the history of each repo is complete. Another user's commits stay where they are: they end the history here.
    """
    user = checkpoint.user
    if repo == checkpoint.repo or not (checkpoint.parent or "").startswith(f"{user}/"):
        return
    commits = catalog.history.commits
    known = graph.ancestors(commits.parents(user, repo), [tip])
    for commit_id, commit in commits.of_repo(user, repo).items():
        if commit_id in known and commits.find(user, checkpoint.repo, commit_id) is None:
            commits.add(user, checkpoint.repo, commit)
            for key, value in commits.notes(user, repo, commit_id).items():
                commits.put_note(user, checkpoint.repo, commit_id, key, value)


def backfill(catalog: Catalog) -> int:
    """Add commits for the checkpoints of older versions, parents first, and operations for the moves of their bakes'
    names. Returns: the number of commits.

    One transaction: after a crash, the next start does it again.
    """
    with catalog.store.transaction():
        without = {each.name: each for each in catalog.store.checkpoints.without_commit()}
        total = len(without)
        names = {(each.user, each.repo, each.bake) for each in without.values()}
        results = {each.job_id: each.step for each in without.values()}  # ascending: the last one of each training
        while without:
            ready = [each for each in without.values() if each.parent not in without]
            # A circle can't come from training; if a row was edited by hand, break it anywhere.
            for checkpoint in ready or [next(iter(without.values()))]:
                done = committed(catalog, without.pop(checkpoint.name))
                catalog.store.checkpoints.set_commit(done)
                job = catalog.store.jobs.find_bake(done.job_id)
                if job is not None and job.state is JobState.COMPLETE and done.step == results[done.job_id]:
                    evaluated(catalog, done, job.loss)
        pointers.backfill(catalog, names)
        return total
