"""Bakes whose results a job waits for. When such a bake is complete, the job takes the name of its result.

A job may only wait for jobs that exist when it is started, so no two jobs can wait for each other. Blocks, like the
catalog that it reads: see `storage/one_thread.py`.
"""

from typing import TypeVar

import msgspec

from baker.errors import NotFoundError, StageError
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job import AnyJob, BakeJob, RolloutJob, StimJob
from baker.storage.job_inputs import AwaitedBake, BakeInputs, GeneratorPlan, RolloutInputs, StimInputs, TargetSnapshot

Inputs = TypeVar("Inputs", RolloutInputs, BakeInputs)
Results = dict[int, str]
"""Number of an awaited bake's job -> name of its result."""


def result_of(catalog: Catalog, awaited: AwaitedBake) -> str | None:
    """Name of the checkpoint that is the bake's result; None until the bake is complete.

    Raises: NotFoundError if the bake was deleted; StageError if `publish_if` holds the result back.
    """
    job = catalog.store.jobs.find_bake(awaited.job)
    if job is None or job.deleted is not None:
        raise NotFoundError(f"bake {awaited.name!r}, whose result it waited for, was deleted")
    if job.state is not JobState.COMPLETE:
        return None
    if bakes.is_held_back(catalog, job):
        raise StageError(
            f"the result of bake {awaited.name!r}, which it waited for, is held back ({job.held_back}): name one of "
            "the bake's checkpoints, or promote one, then run it again"
        )
    own = [known for known in bakes.checkpoints(catalog, job.user, job.repo, job.name) if known.job_id == job.id]
    if not own:
        raise NotFoundError(f"the result of bake {awaited.name!r}, which it waited for, was deleted")
    return own[0].name


def settled(catalog: Catalog, job: AnyJob) -> AnyJob:
    """The job with the results of those awaited bakes that are complete, also in its row. Raises: see `result_of`."""
    results = {awaited.job: name for awaited in job.inputs.awaited if (name := result_of(catalog, awaited)) is not None}
    changed: AnyJob
    match job:
        case StimJob():
            changed = msgspec.structs.replace(job, inputs=_with_writers(job.inputs, results))
        case RolloutJob():
            changed = msgspec.structs.replace(job, inputs=_with_checkpoint(job.inputs, results))
        case BakeJob():
            inputs = _with_checkpoint(job.inputs, results)
            changed = msgspec.structs.replace(job, inputs=_with_teachers(catalog, inputs))
    if changed != job:
        catalog.store.jobs.update(job.id, inputs=changed.inputs)
    return changed


def _with_writers(inputs: StimInputs, results: Results) -> StimInputs:
    def known(plan: GeneratorPlan) -> GeneratorPlan:
        writer = plan.writer
        if writer is None or writer.awaited is None or writer.awaited.job not in results:
            return plan
        writer = msgspec.structs.replace(writer, checkpoint=results[writer.awaited.job], awaited=None)
        return msgspec.structs.replace(plan, writer=writer)

    return msgspec.structs.replace(inputs, generators=list(map(known, inputs.generators)))


def _with_checkpoint(inputs: Inputs, results: Results) -> Inputs:
    awaited = inputs.awaited_bake
    if awaited is None or awaited.job not in results:
        return inputs
    return msgspec.structs.replace(inputs, checkpoint=results[awaited.job], awaited_bake=None)


def _with_teachers(catalog: Catalog, inputs: BakeInputs) -> BakeInputs:
    """With the models that answered the targets, which may not have been known when the bake was started."""

    def known(target: str, snapshot: TargetSnapshot) -> TargetSnapshot:
        number = inputs.rollouts.get(target)
        rollout = None if number is None or snapshot.checkpoint is not None else catalog.store.jobs.find(number)
        if not isinstance(rollout, RolloutJob):
            return snapshot
        return msgspec.structs.replace(snapshot, checkpoint=rollout.inputs.checkpoint)

    return msgspec.structs.replace(inputs, targets={name: known(name, each) for name, each in inputs.targets.items()})
