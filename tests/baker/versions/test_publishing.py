"""Publishing without a training. The whole stage is in test_bake_stage.py."""

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from baker.config.bake import bake_config
from baker.errors import TrainingError
from baker.history.revisions import RepoView
from baker.model_names import BaseModelNames
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.status import Loss
from baker.storage.home import checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint, SavedCheckpoint
from baker.versions import checkpoints
from baker.versions.checkpoints import Kept
from baker.versions.publishing import Bake, CheckpointService, Result
from tests.baker.jobs.test_bake_stage import Publisher

pytestmark = pytest.mark.anyio

HASH = "0" * 64


def test_a_result_of_an_older_version_is_still_read() -> None:
    written = (
        b'{"checkpoints": [{"step": 4, "path": "jobs/3/checkpoints/4", "sha256": "ab"}], '
        b'"created": 1790000000, "loss": {"final_loss": 0.5}}'
    )
    result = msgspec.json.decode(written, type=Result)
    assert result == Result([SavedCheckpoint(4, "ab")], 1_790_000_000, Loss(final_loss=0.5))
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


class Running:
    """A bake with the checkpoints 2, 4 and 5 on disk."""

    def __init__(self, home: Path, refused: tuple[int, ...] = (), **settings: Any) -> None:
        self.home = home
        self.warnings: list[str] = []
        self.publisher = Publisher(*refused)
        self.catalog = OneThread(lambda: Catalog(home, BaseModelNames("fake/base", stands_in=True)), "store")
        self.service = CheckpointService(self.catalog, self.publisher)
        self.config = bake_config({"datasets": [], **settings})

    async def start(self) -> Bake:
        def add(catalog: Catalog) -> BakeJob:
            repos.put(catalog, "admin", "repo", None)
            bakes.put(catalog, "admin", "repo", "bake", "default", {}, may_change=False)
            job = BakeJob(user="admin", repo="repo", name="bake", config=self.config, inputs=BakeInputs({}, None))
            return catalog.store.jobs.add(job)

        async def warn(message: str) -> None:
            self.warnings.append(message)

        job = await self.catalog(add)
        folder = job_folder(self.home, job.id)
        for step in (2, 4, 5):
            checkpoint_folder(folder, step).mkdir(parents=True)
            for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                (checkpoint_folder(folder, step) / name).touch()
        return Bake(job, folder, None, warn)

    async def steps(self) -> list[int]:
        return [known.step for known in await self.catalog(bakes.checkpoints, "admin", "repo", "bake")]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    started = Running(tmp_path)
    yield started
    started.catalog.close(Catalog.close)


async def test_a_checkpoint_waits_for_an_engine_that_is_away_and_is_published_with_the_result(running: Running) -> None:
    bake = await running.start()
    assert await running.service.serve(bake, SavedCheckpoint(2, HASH))
    running.publisher.is_away = True
    assert not await running.service.serve(bake, SavedCheckpoint(4, HASH))
    running.publisher.is_away = False
    result = Result([SavedCheckpoint(4, HASH), SavedCheckpoint(5, HASH)], 0, Loss())
    await running.service.finish(bake, result)
    assert running.publisher.proved == [2, 5, 4], "the result is proved before the earlier one"
    assert running.publisher.published == [2, 4, 5] and await running.steps() == [5, 4, 2]
    await running.service.finish(bake, result)
    assert await running.steps() == [5, 4, 2], "after a crash at its end, the same again"


async def test_a_checkpoint_that_is_served_already_is_not_proved_again(running: Running) -> None:
    bake = await running.start()
    for step in (4, 4, 2):
        assert await running.service.serve(bake, SavedCheckpoint(step, HASH))
    assert running.publisher.proved == [4]
    assert (await running.service.student(bake, 4)).step == 4
    assert running.publisher.proved == [4]


async def test_a_checkpoint_whose_bake_is_cancelled_while_its_row_is_stored_is_served(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    bake = await running.start()
    is_storing, may_go_on, keep = threading.Event(), threading.Event(), checkpoints.keep

    def slow(*args: Any, **kwargs: Any) -> Kept:
        is_storing.set()
        may_go_on.wait()
        return keep(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "keep", slow)
    serving = asyncio.create_task(running.service.serve(bake, SavedCheckpoint(2, HASH)))
    await asyncio.to_thread(is_storing.wait)
    serving.cancel()
    await asyncio.wait([serving])
    may_go_on.set()
    assert await running.steps() == [2] == running.publisher.published


@pytest.mark.parametrize("name", ["prune", "discard_run", "remove_of_other_jobs"])
async def test_a_checkpoint_whose_bake_is_cancelled_while_its_row_is_removed_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    running = Running(tmp_path, checkpoint=[{"save_total_limit": 1}] if name == "prune" else [])
    bake = await running.start()
    assert await running.service.serve(bake, SavedCheckpoint(2, HASH))
    is_removing, may_go_on = threading.Event(), threading.Event()
    # There is no earlier run here: what would remove its checkpoints removes one of this run.
    remove = partial(checkpoints.prune, limit=1) if name == "remove_of_other_jobs" else getattr(checkpoints, name)

    def slow(catalog: Catalog, job: BakeJob, **arguments: Any) -> list[Checkpoint]:
        is_removing.set()
        may_go_on.wait()
        gone: list[Checkpoint] = remove(catalog, job, **({} if "result" in arguments else arguments))
        return gone

    monkeypatch.setattr(checkpoints, name, slow)
    work = {
        "prune": lambda: running.service.serve(bake, SavedCheckpoint(4, HASH)),
        "discard_run": lambda: running.service.discard(bake.job, bake.folder),
        "remove_of_other_jobs": lambda: running.service.finish(bake, Result([SavedCheckpoint(5, HASH)], 0, Loss())),
    }
    show, is_shown = running.publisher.show, asyncio.Event()

    def watched(view: RepoView) -> None:
        show(view)
        if "bake/2" not in view.checkpoints:
            is_shown.set()

    monkeypatch.setattr(running.publisher, "show", watched)
    task = asyncio.create_task(work[name]())
    await asyncio.to_thread(is_removing.wait)
    task.cancel()
    await asyncio.wait([task])
    may_go_on.set()
    await asyncio.wait_for(is_shown.wait(), 60)
    assert 2 in running.publisher.retired and 2 not in await running.steps()
    running.catalog.close(Catalog.close)


async def test_a_student_that_is_not_served_as_it_was_trained_ends_the_bake(tmp_path: Path) -> None:
    running = Running(tmp_path, refused=(4,))
    bake = await running.start()
    with pytest.raises(TrainingError, match="checkpoint 4 was written, but it is not served as it was trained"):
        await running.service.student(bake, 4)
    assert await running.steps() == [] and running.publisher.published == []
    running.catalog.close(Catalog.close)


async def test_names_and_evaluations_are_published_with_the_versions(tmp_path: Path) -> None:
    running = Running(tmp_path, branch="main", message="first try")
    bake = await running.start()
    await running.catalog(Catalog.update_job, bake.job.id, loss=Loss(eval_kl=0.5))
    assert await running.service.serve(bake, SavedCheckpoint(2, HASH))
    view = running.publisher.view
    assert view.bakes["bake"] == view.checkpoints["bake/2"] and view.refs == {}, "a branch moves to results only"
    await running.service.finish(bake, Result([SavedCheckpoint(5, HASH)], 0, Loss(eval_kl=0.25, drift=0.01)))
    view = running.publisher.view
    result = view.checkpoints["bake/5"]
    assert view.bakes["bake"] == view.refs["main"].target == result
    notes = await running.catalog(lambda catalog: catalog.history.commits.all_notes("admin", "repo"))
    assert notes == {
        view.checkpoints["bake/2"]: {"evaluation": {"eval_kl": 0.5}},
        result: {"evaluation": {"eval_kl": 0.25, "drift": 0.01}},
    }
    assert running.warnings == []
    running.catalog.close(Catalog.close)


async def test_a_branch_that_does_not_move_is_a_warning(tmp_path: Path) -> None:
    running = Running(tmp_path, branch="taken")
    bake = await running.start()

    def take(catalog: Catalog) -> None:
        bakes.put(catalog, "admin", "repo", "taken", "default", {}, may_change=False)

    await running.catalog(take)
    await running.service.finish(bake, Result([SavedCheckpoint(5, HASH)], 0, Loss()))
    assert running.warnings == [
        "branch 'taken' did not move to the result: 'taken' is a bake of repo 'repo': choose another name"
    ]
    assert await running.steps() == [5]
    running.catalog.close(Catalog.close)
