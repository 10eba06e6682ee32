"""Fills a catalog with bakes that begin from each other, as finished trainings leave them."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from baker.config.bake import BakeConfig
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.merge_report import MergeReport
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.status import JobState, Loss, Stage
from baker.storage.home import checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint
from baker.versions import checkpoints


def baked(
    catalog: Catalog,
    name: str,
    parent: Checkpoint | None = None,
    *,
    steps: tuple[int, ...] = (3,),
    user: str = "admin",
    repo: str = "repo",
    config: BakeConfig | None = None,
    loss: Loss | None = None,
    branch_tip: str | None = None,
) -> Checkpoint:
    """A run of the bake that wrote checkpoints of these steps. Its name means the last one. Returns: that one."""
    repos.put(catalog, user, repo, None)
    bakes.put(catalog, user, repo, name, "default", {}, may_change=False)
    parent_name = None if parent is None else parent.name
    inputs = BakeInputs({}, parent_name, branch_tip=branch_tip)
    job = catalog.store.jobs.add(BakeJob(user=user, repo=repo, name=name, config=config or BakeConfig(), inputs=inputs))
    folder = job_folder(catalog.store.home, job.id)
    rows = [
        Checkpoint(
            user=user,
            repo=repo,
            bake=name,
            step=step,
            path=checkpoint_folder(folder, step),
            sha256=sha256(f"{job.id} {step}".encode()).hexdigest(),
            created=1_000_000 + 60 * job.id + step,
            job_id=job.id,
            parent=parent_name,
        )
        for step in steps
    ]
    kept = checkpoints.keep(catalog, job, rows, rows[-1:], state=JobState.COMPLETE, loss=loss, is_result=True)
    return kept.checkpoints[-1]


POLICY = Policy(has_anthropic_key=False, stim_fallback=True, max_lora_rank=64)


def merged(
    catalog: Catalog,
    name: str,
    into: str,
    *others: str,
    repo: str = "repo",
    report: MergeReport | None = None,
    held_back: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    **merge: Any,
) -> Checkpoint:
    """A merge of versions of the repo as it is planned, and its checkpoint 0. Args: held_back: no name moves then."""
    settings = {**(overrides or {}), "merge": {**merge, "into": into, "others": list(others)}}
    bakes.put(catalog, "admin", repo, name, "default", settings, may_change=False)
    job = plan.start(catalog, POLICY, Stage.BAKE, "admin", repo, name, None)
    assert isinstance(job, BakeJob)
    return merge_result(catalog, job, report, held_back)


def merge_result(
    catalog: Catalog, job: BakeJob, report: MergeReport | None = None, held_back: str | None = None
) -> Checkpoint:
    """End the job of a merge with the checkpoint 0."""
    catalog.store.jobs.update(job.id, merge=report or MergeReport(job.config.merge.meant_kind, strategy="algebra"))
    row = Checkpoint(
        user=job.user,
        repo=job.repo,
        bake=job.name,
        step=0,
        path=checkpoint_folder(job_folder(catalog.store.home, job.id), 0),
        sha256=sha256(f"{job.id} merged".encode()).hexdigest(),
        created=1_000_000 + 60 * job.id,
        job_id=job.id,
        parent=job.inputs.checkpoint,
    )
    moving = [row] if held_back is None else []
    changes = {"state": JobState.COMPLETE, "held_back": held_back}
    return checkpoints.keep(catalog, job, [row], moving, is_result=True, loss=None, **changes).checkpoints[-1]
