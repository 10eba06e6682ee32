"""Fills a catalog with bakes that begin from each other, as finished trainings leave them."""

from hashlib import sha256

from baker.config.bake import BakeConfig
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.status import JobState, Loss
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
