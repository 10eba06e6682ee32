"""The rows of a bake's checkpoints over several runs of it."""

from pathlib import Path

import pytest

from baker.config.bake import BakeConfig
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.status import JobState, Loss
from baker.storage.home import checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint
from baker.versions import checkpoints


@pytest.fixture
def two_runs(catalog: Catalog) -> tuple[Catalog, BakeJob, BakeJob]:
    """A bake's failed run, which left checkpoints 2 and 4 and was live with 4, and its next run."""
    repos.put(catalog, "admin", "repo", None)
    bakes.put(catalog, "admin", "repo", "bake", "default", {}, may_change=False)
    first, second = (add_job(catalog) for _ in range(2))
    for step in (2, 4):
        row = checkpoint(catalog, first, step)
        checkpoints.keep(catalog, first, [row], [row])
    return catalog, first, second


def add_job(catalog: Catalog, name: str = "bake", parent: str | None = None) -> BakeJob:
    job = BakeJob(user="admin", repo="repo", name=name, config=BakeConfig(), inputs=BakeInputs({}, parent))
    return catalog.store.jobs.add(job)


def folder(catalog: Catalog, job: BakeJob, step: int) -> Path:
    return checkpoint_folder(job_folder(catalog.store.home, job.id), step)


def checkpoint(catalog: Catalog, job: BakeJob, step: int, number: int | None = None) -> Checkpoint:
    path = folder(catalog, job, step)
    return Checkpoint("admin", "repo", "bake", number or step, path, "0" * 64, 0, job.id)


def steps(rows: list[Checkpoint]) -> list[int]:
    return [row.step for row in rows]


def test_numbers_are_steps_unless_a_checkpoint_that_must_stay_has_them(
    two_runs: tuple[Catalog, BakeJob, BakeJob],
) -> None:
    catalog, _first, second = two_runs
    folders = [folder(catalog, second, step) for step in (2, 4, 5)]
    assert checkpoints.numbers(catalog, second, folders) == [2, 5, 6], "4 is live, 2 may be replaced"
    row = checkpoint(catalog, second, 4, number=5)
    checkpoints.keep(catalog, second, [row], [row])
    assert checkpoints.trained_steps(row) == 4
    assert checkpoints.numbers(catalog, second, folders[1:2]) == [5], "known from before an interruption"


def test_a_checkpoint_that_is_known_is_not_added_again_and_moves_no_name(
    two_runs: tuple[Catalog, BakeJob, BakeJob],
) -> None:
    catalog, first, _ = two_runs
    row = checkpoint(catalog, first, 4)
    kept = checkpoints.keep(catalog, first, [row], [row], progress_percent=100.0)
    assert ([each.name for each in kept.checkpoints], kept.moved) == ([row.name], [])
    job = catalog.store.jobs.find(first.id)
    assert job is not None and job.progress_percent == 100.0
    assert steps(checkpoints.of_job(catalog, first)) == [4, 2]


def test_pruning_spares_the_live_checkpoint_and_those_that_another_job_uses(
    two_runs: tuple[Catalog, BakeJob, BakeJob],
) -> None:
    catalog, first, _ = two_runs
    for step in (6, 8, 10):
        checkpoints.keep(catalog, first, [checkpoint(catalog, first, step)], [])
    add_job(catalog, "child", parent="admin/repo/bake/2")
    assert steps(checkpoints.prune(catalog, first, 1)) == [8, 6]
    assert steps(checkpoints.of_job(catalog, first)) == [10, 4, 2]


def test_a_finished_run_replaces_older_ones_but_for_the_way_back(two_runs: tuple[Catalog, BakeJob, BakeJob]) -> None:
    catalog, _first, second = two_runs
    result = checkpoint(catalog, second, 9)
    checkpoints.keep(catalog, second, [result], [result])
    assert steps(checkpoints.remove_of_other_jobs(catalog, second, result)) == [2]
    assert steps(bakes.checkpoints(catalog, "admin", "repo", "bake")) == [9, 4]


def test_a_namesake_of_another_run_is_removed(two_runs: tuple[Catalog, BakeJob, BakeJob]) -> None:
    catalog, first, second = two_runs
    assert checkpoints.remove_namesakes(catalog, first, checkpoint(catalog, first, 2)) == []
    assert steps(checkpoints.remove_namesakes(catalog, second, checkpoint(catalog, second, 2))) == [2]
    assert steps(checkpoints.remove_of_job(catalog, first)) == [4]


def test_a_run_that_continues_another_has_its_checkpoints_and_its_progress(
    two_runs: tuple[Catalog, BakeJob, BakeJob],
) -> None:
    catalog, first, second = two_runs
    catalog.store.jobs.update(first.id, state=JobState.FAILED, loss=Loss(latest_loss=0.5), progress_percent=40.0)
    before = bakes.job_before(catalog, second)
    assert before is not None
    checkpoints.hand_over(catalog, before, second)
    assert checkpoints.of_job(catalog, first) == []
    assert steps(checkpoints.of_job(catalog, second)) == [4, 2]
    job = catalog.store.jobs.find_bake(second.id)
    assert job is not None and (job.loss, job.progress_percent) == (Loss(latest_loss=0.5), 40.0)
