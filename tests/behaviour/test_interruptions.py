"""The bake stage around a real training process that is killed, cancelled and resumed."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from baker.adapters.files import ADAPTER_WEIGHTS
from baker.history.ref_table import RefKind
from baker.jobs import bake_stage
from baker.repos import bakes, models
from baker.status import JobState, Stage
from baker.storage.files import read_lines
from baker.storage.job import BakeJob
from baker.versions import refs
from tests.baker.jobs.test_bake_stage import Publisher, ended, make_service, steps_kept
from tests.baker.jobs.test_queue import USER, Service, running
from tests.baker.tiny import make_model
from tests.baker.training.run.test_main import is_running

pytestmark = pytest.mark.anyio

SETTINGS: dict[str, Any] = {
    "datasets": [{"target": "target"}],
    "epochs": 24,
    "micro_batch_size": 2,
    "optimizer": {"learning_rate": 0.003},
    "model": {"baked_adapter_config": {"r": 2, "lora_alpha": 2, "lora_dropout": 0.1}, "dtype": "fp32"},
    "checkpoint": [{"save_every_n_steps": 20}],
}
LAST = 120
SECONDS = 300


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a token for each character of the fake engine's answers."""
    folder = tmp_path_factory.mktemp("base") / "model"
    make_model(vocab_size=160).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bake_stage, "RETRY_SECONDS", 0.0)


def service_of(home: Path, base: Path, publisher: Publisher | None = None) -> Service:
    service = make_service(home, publisher or Publisher(), trainer_threads=1)
    service.engine.path = base
    return service


async def begin(service: Service, **settings: Any) -> BakeJob:
    await service.fill()
    await service.catalog(bakes.put, USER, "repo", "bake", "default", {**SETTINGS, **settings}, may_change=True)
    for stage in (Stage.STIM, Stage.ROLLOUT):
        await service.start(stage)
    return await service.jobs.start(Stage.BAKE, USER, "repo", "bake")


async def until(test: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if test():
                return
            await asyncio.sleep(0.005)


def trainer() -> psutil.Process | None:
    """The training process, if one runs."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "baker.training.run" in child.cmdline():
                return child
    return None


def kill_trainer() -> int | None:
    if (process := trainer()) is None:
        return None
    process.kill()
    return process.pid


def step_of(service: Service, job: BakeJob) -> int:
    progress = service.jobs.training.get(job.id)
    return 0 if progress is None else progress.step


def rows_of(home: Path, job: BakeJob) -> list[tuple[int, float]]:
    rows = read_lines(home / "jobs" / str(job.id) / "metrics.jsonl")
    return [(row["iter"], row.get("loss", row.get("eval_loss"))) for row in rows]


def weights_of(home: Path, job: BakeJob) -> bytes:
    return (home / "jobs" / str(job.id) / "checkpoints" / str(LAST) / ADAPTER_WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory, base: Path) -> tuple[Path, BakeJob]:
    """A bake that nothing interrupted."""
    home = tmp_path_factory.mktemp("whole")
    async with running(service_of(home, base)) as service:
        await begin(service)
        job = await ended(service, SECONDS)
        assert (job.state, job.error) == (JobState.COMPLETE, None)
        assert await steps_kept(service) == list(range(LAST, 0, -20))
    assert not (home / "jobs" / str(job.id) / "state").exists(), "it is not needed any more"
    assert (home / "jobs" / str(job.id) / "metrics.png").read_bytes().startswith(b"\x89PNG")
    return home, job


async def test_a_trainer_that_is_killed_is_resumed(tmp_path: Path, base: Path, whole: tuple[Path, BakeJob]) -> None:
    async with running(service_of(tmp_path, base)) as service:
        job = await begin(service)
        await until(lambda: step_of(service, job) >= 50)
        killed = kill_trainer()
        done = await ended(service, SECONDS)
        assert killed is not None
        assert (done.state, done.error, done.attempts) == (JobState.COMPLETE, None, 1)
        assert await steps_kept(service) == list(range(LAST, 0, -20))
    assert weights_of(tmp_path, job) == weights_of(*whole)
    assert rows_of(tmp_path, job) == rows_of(*whole)
    assert done.loss == whole[1].loss


async def test_a_trainer_that_is_killed_each_time_fails_with_the_reason_and_its_checkpoints_are_served(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bake_stage, "RETRIES", 1)
    publisher = Publisher()
    async with running(service_of(tmp_path, base, publisher)) as service:
        await begin(service)
        await until(lambda: 20 in publisher.published)
        killed = kill_trainer()
        await until(lambda: (again := trainer()) is not None and again.pid != killed)
        kill_trainer()
        failed = await ended(service, SECONDS)
        assert failed.state is JobState.FAILED
        assert "was killed (most often: out of memory)" in (failed.error or "")
        assert 20 in await steps_kept(service)


async def test_cancelling_ends_the_training_at_once_and_the_next_run_continues_it(
    tmp_path: Path, base: Path, whole: tuple[Path, BakeJob]
) -> None:
    publisher = Publisher()
    async with running(service_of(tmp_path, base, publisher)) as service:
        parent = {**SETTINGS["model"], "parent_model_name": "fake/base"}
        job = await begin(service, branch="main", model=parent)
        await until(lambda: 40 in publisher.published)
        process = trainer()
        assert process is not None
        async with asyncio.timeout(10):
            cancelled = await service.jobs.cancel(Stage.BAKE, USER, "repo", "bake")
        assert cancelled is not None and (cancelled.state, cancelled.error) == (JobState.FAILED, "cancelled")
        assert not process.is_running(), "the machine is free"
        served = await steps_kept(service)
        assert served[-2:] == [40, 20] and publisher.retired == []
        newest = await service.catalog(models.resolve, USER, "repo/bake")
        assert newest.checkpoint is not None and newest.checkpoint.step == served[0]
        await service.catalog(refs.put, USER, "repo", "main", RefKind.BRANCH, "bake/20")
        again = await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
        assert again.id > job.id, "although its branch moved meanwhile"
        done = await ended(service, SECONDS)
        assert (done.state, done.error) == (JobState.COMPLETE, None)
        assert set(served) < set(await steps_kept(service))
    assert weights_of(tmp_path, again) == weights_of(*whole)
    assert rows_of(tmp_path, again) == rows_of(*whole)


async def test_a_service_that_stops_loses_no_step(tmp_path: Path, base: Path, whole: tuple[Path, BakeJob]) -> None:
    async with running(service_of(tmp_path, base)) as service:
        job = await begin(service)
        await until(lambda: step_of(service, job) >= 30)
    before = rows_of(tmp_path, job)
    states = {int(path.name) for path in (tmp_path / "jobs" / str(job.id) / "state").iterdir()}
    assert max(states) == before[-1][0]
    async with running(service_of(tmp_path, base)) as service:
        done = await ended(service, SECONDS)
        assert (done.id, done.state, done.attempts) == (job.id, JobState.COMPLETE, 1)
    assert weights_of(tmp_path, job) == weights_of(*whole)
    assert rows_of(tmp_path, job) == rows_of(*whole)


def serve_forever(home: Path, base: Path) -> None:
    async def serve() -> None:
        async with running(service_of(home, base)) as service:
            await begin(service)
            await asyncio.Event().wait()

    asyncio.run(serve())


async def test_after_kill_9_of_the_service_the_next_one_continues(
    tmp_path: Path, base: Path, whole: tuple[Path, BakeJob]
) -> None:
    service_process = multiprocessing.get_context("spawn").Process(target=serve_forever, args=(tmp_path, base))
    service_process.start()
    _, whole_job = whole
    await until(lambda: len(rows_of(tmp_path, whole_job)) > 30)  # jobs have the same numbers in each new home
    trainers = psutil.Process(service_process.pid).children()
    service_process.kill()
    service_process.join()
    await until(lambda: not any(is_running(process.pid) for process in trainers))
    before = rows_of(tmp_path, whole_job)
    assert len(before) < LAST
    async with running(service_of(tmp_path, base)) as service:
        done = await ended(service, SECONDS)
        assert (done.id, done.state, done.error) == (whole_job.id, JobState.COMPLETE, None)
        assert await steps_kept(service) == list(range(LAST, 0, -20))
    assert weights_of(tmp_path, done) == weights_of(*whole)
    assert rows_of(tmp_path, done) == rows_of(*whole)


async def test_a_merge_that_is_killed_in_its_training_ends_as_it_would_have(
    base: Path, whole: tuple[Path, BakeJob]
) -> None:
    """Two checkpoints of the bake are merged twice, once with a killed training."""
    home, _ = whole
    adapters = []
    async with running(service_of(home, base)) as service:
        for name in ("killed", "undisturbed"):
            merge = {"others": ["bake/20"], "strategy": "distill"}
            model = {**SETTINGS["model"], "parent_model_name": "repo/bake"}
            settings = {**SETTINGS, "datasets": [], "epochs": 6, "merge": merge, "model": model}
            await service.catalog(bakes.put, USER, "repo", name, "default", settings, may_change=False)
            job = await service.jobs.start(Stage.BAKE, USER, "repo", name)
            assert isinstance(job, BakeJob)
            folder = home / "jobs" / str(job.id)
            if name == "killed":
                await until(lambda job=job: step_of(service, job) >= 12)
                sums = (folder / "sum" / ADAPTER_WEIGHTS).stat()
                assert kill_trainer() is not None
            done = await service.jobs.wait(job, SECONDS)
            assert isinstance(done, BakeJob) and (done.state, done.error) == (JobState.COMPLETE, None)
            assert done.merge is not None and (done.merge.strategy, done.merge.phase) == ("distill", None)
            if name == "killed":
                assert (folder / "sum" / ADAPTER_WEIGHTS).stat().st_ino == sums.st_ino, "it is not added up again"
            last = (await service.catalog(bakes.checkpoints, USER, "repo", name))[0]
            adapters.append((last.path / ADAPTER_WEIGHTS).read_bytes())
    assert adapters[0] == adapters[1]
