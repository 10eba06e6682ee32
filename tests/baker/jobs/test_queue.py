"""The queue with its stages, on real files and a real SQLite file, around an engine with known outputs.

Stages and training have their own tests; the whole chain runs in tests/behaviour/test_first_bake.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.config.bake import BakeConfig
from baker.history.revisions import RepoView
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.jobs.queue import Jobs
from baker.jobs.stages import Stages, StageSettings
from baker.model_names import BaseModelNames
from baker.repos import prompts, repos, targets
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage, Standing
from baker.storage.files import read_lines
from baker.storage.home import job_folder
from baker.storage.job import AnyJob
from baker.storage.one_thread import OneThread
from baker.trajectories.files import load_trajectory
from baker.trajectories.mix import linked_mix
from baker.types import Checkpoint, Prompt
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

USER = "admin"
POLICY = Policy(has_anthropic_key=False, stim_fallback=True, max_lora_rank=32)


class NoPublisher:
    async def prove(self, checkpoint: Checkpoint) -> None:
        raise AssertionError("nothing is baked here")

    def register(self, checkpoint: Checkpoint) -> None:
        raise AssertionError("nothing is baked here")

    def publish(self, checkpoint: Checkpoint) -> None:
        raise AssertionError("nothing is baked here")

    async def retire(self, checkpoint: Checkpoint) -> None:
        raise AssertionError("nothing is baked here")

    def show(self, view: RepoView) -> None:
        raise AssertionError("nothing is baked here")


class Service:
    """A queue over `home` that can be stopped and started again."""

    def __init__(self, home: Path, engine: FakeEngine) -> None:
        self.home = home
        self.engine = engine
        self.catalog = OneThread(lambda: Catalog(home, BaseModelNames("fake/base", stands_in=True)), "store")
        self.stages = Stages(home, self.catalog, engine, engine, NoPublisher(), StageSettings(top_logprobs=4))
        self.jobs = Jobs(self.catalog, self.stages, POLICY)

    async def fill(self, **overrides: Any) -> None:
        await self.catalog(repos.put, USER, "repo", None)
        loud = Prompt(messages=[{"role": "system", "content": "Be loud"}])
        await self.catalog(prompts.put, USER, "repo", "loud", loud, may_change=True)
        questions = {"type": "hardcoded", "questions": [f"Question {i}?" for i in range(6)]}
        settings = {"u": "loud", "v": "", "generators": [questions], "num_traj_per_stimulus": 2, **overrides}
        await self.catalog(targets.put, USER, "repo", "target", "default", settings, may_change=True)

    async def start(self, stage: Stage) -> AnyJob:
        return await self.jobs.start(stage, USER, "repo", "target")

    async def ended(self, stage: Stage) -> AnyJob:
        return await self.until(stage, lambda job: not job.state.is_active)

    async def until(self, stage: Stage, test: Callable[[AnyJob], bool]) -> AnyJob:
        async with asyncio.timeout(60):
            while True:
                job = await self.catalog(plan.latest_job, stage, USER, "repo", "target")
                assert job is not None
                if test(job):
                    return job
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[Service]:
    task = asyncio.create_task(service.jobs.run())
    try:
        yield service
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        service.catalog.close(Catalog.close)


@pytest.mark.parametrize("is_shutdown", [False, True])
async def test_a_job_that_is_cancelled_while_its_end_is_written_stays_complete(
    service: Service, monkeypatch: pytest.MonkeyPatch, is_shutdown: bool
) -> None:
    written, leave, ends = asyncio.Event(), service.jobs._leave, []

    async def slow_leave(job_id: int, **changes: Any) -> None:
        await leave(job_id, **changes)
        if changes["state"] is JobState.COMPLETE:
            ends.append(job_id)
            written.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(service.jobs, "_leave", slow_leave)
    await service.fill()
    await service.start(Stage.STIM)
    await written.wait()
    ((number, (_, task)),) = service.jobs._running.items()
    if not is_shutdown:  # a client that saw it running
        service.jobs._cancelled.add(number)
    task.cancel()
    await asyncio.wait([task])
    job = await service.ended(Stage.STIM)
    assert (job.state, job.error, job.progress_percent) == (JobState.COMPLETE, None, 100.0)
    assert ends == [job.id], "it is not run again"


async def test_stim_and_rollout_started_in_a_row_both_end_complete(service: Service) -> None:
    await service.start(Stage.STIM)
    rollout = await service.start(Stage.ROLLOUT)
    assert rollout.state is JobState.PENDING
    done = await service.ended(Stage.ROLLOUT)
    assert (done.state, done.lines, done.total_expected, done.progress_percent) == ("complete", 12, 12, 100.0)
    rows = read_lines(job_folder(service.home, done.id) / "rows.jsonl")
    assert {(row["stimulus_id"], row["trajectory_id"]) for row in rows} == {(i, k) for i in range(6) for k in (0, 1)}


async def test_a_running_job_can_be_cancelled_and_run_again(service: Service) -> None:
    await service.start(Stage.STIM)
    await service.ended(Stage.STIM)
    service.engine.gate.clear()
    first = await service.start(Stage.ROLLOUT)
    await service.engine.asked.wait()
    cancelled = await service.jobs.cancel(Stage.ROLLOUT, USER, "repo", "target")
    assert cancelled is not None
    assert (cancelled.id, cancelled.state, cancelled.error) == (first.id, JobState.FAILED, "cancelled")
    assert cancelled.error_code == "CANCELLED"
    assert service.engine.running == 0, "the engine works for nobody"
    assert await service.jobs.cancel(Stage.ROLLOUT, USER, "repo", "target") == cancelled
    service.engine.gate.set()
    again = await service.start(Stage.ROLLOUT)
    assert again.id > first.id
    assert (await service.ended(Stage.ROLLOUT)).state is JobState.COMPLETE


async def test_a_job_that_waits_can_be_cancelled_and_fails_what_waits_for_it(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.ready.clear()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill(generators=[{"type": "oneshot_qs", "numq": 1, "max_tokens": 64}])
        engine.reply = lambda _: "1. Is it one?"
        assert await service.jobs.cancel(Stage.STIM, USER, "repo", "target") is None, "it was never started"
        await service.start(Stage.STIM)
        await service.start(Stage.ROLLOUT)
        cancelled = await service.jobs.cancel(Stage.STIM, USER, "repo", "target")
        assert cancelled is not None and (cancelled.error, cancelled.error_code) == ("cancelled", "CANCELLED")
        rollout = await service.ended(Stage.ROLLOUT)
        assert "failed: cancelled" in (rollout.error or "") and rollout.error_code == "STAGE_FAILED"
        engine.ready.set()
        await service.start(Stage.STIM)
        assert (await service.ended(Stage.STIM)).state is JobState.COMPLETE


async def test_a_job_that_waits_to_retry_can_be_cancelled(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill(max_concurrency=1)
        await service.start(Stage.STIM)
        await service.ended(Stage.STIM)
        engine.fail_after = 3
        await service.start(Stage.ROLLOUT)
        await service.until(Stage.ROLLOUT, lambda _: not engine.ready.is_set())
        cancelled = await service.jobs.cancel(Stage.ROLLOUT, USER, "repo", "target")
        assert cancelled is not None
        assert (cancelled.state, cancelled.error_code) == (JobState.FAILED, "CANCELLED")


async def test_cancelling_a_pending_job_ends_the_wait_for_it(tmp_path: Path) -> None:
    service = Service(tmp_path, FakeEngine())
    await service.fill()
    job = await service.start(Stage.STIM)
    waiting = asyncio.create_task(service.jobs.wait(job, 3600))
    async with asyncio.timeout(10):
        await asyncio.sleep(0)  # it begins to wait
        cancelled = await service.jobs.cancel(Stage.STIM, USER, "repo", "target")
        assert await waiting == cancelled
    service.catalog.close(Catalog.close)


async def test_a_stopped_service_continues_after_the_last_stored_item(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill(max_concurrency=1)
        await service.start(Stage.STIM)
        await service.ended(Stage.STIM)
        engine.gate.clear()
        await service.start(Stage.ROLLOUT)
        await engine.asked.wait()
        for _ in range(5):
            engine.gate.set()
            await asyncio.sleep(0)
        engine.gate.clear()
        await service.until(Stage.ROLLOUT, lambda job: job.lines > 0)
    asked_before = len(engine.requests)
    assert 0 < asked_before < 12
    engine.gate.set()
    async with running(Service(tmp_path, engine)) as again:
        done = await again.ended(Stage.ROLLOUT)
        assert (done.state, done.lines) == (JobState.COMPLETE, 12)
    rows = read_lines(job_folder(tmp_path, done.id) / "rows.jsonl")
    assert len({(row["stimulus_id"], row["trajectory_id"]) for row in rows}) == len(rows) == 12
    assert len(engine.requests) <= 12 + 1, "only the item in flight is asked for again"


async def test_a_failed_stim_fails_what_waits_for_it(tmp_path: Path) -> None:
    async with running(Service(tmp_path, FakeEngine(reply=lambda _: "1. Always the same?"))) as service:
        await service.fill(generators=[{"type": "oneshot_qs", "numq": 5}])
        await service.start(Stage.STIM)
        await service.start(Stage.ROLLOUT)
        stim, rollout = await service.ended(Stage.STIM), await service.ended(Stage.ROLLOUT)
        assert "1 distinct questions of the 5" in (stim.error or "") and stim.error_code == "STIM_FAILED"
        assert stim.lines == 1, "what was made stays readable"
        assert rollout.state is JobState.FAILED
        assert "stim of target 'target' failed" in (rollout.error or "")


async def test_a_dead_engine_fails_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baker.jobs.queue.RETRY_SECONDS", 0.0)
    engine = FakeEngine()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill(max_concurrency=1)
        await service.start(Stage.STIM)
        await service.ended(Stage.STIM)
        engine.fail_after = 3
        await service.start(Stage.ROLLOUT)
        waiting = await service.until(Stage.ROLLOUT, lambda job: job.state is JobState.PENDING and job.attempts > 0)
        assert waiting.lines == 3
        engine.fail_after = None
        engine.ready.set()
        assert (await service.ended(Stage.ROLLOUT)).state is JobState.COMPLETE


async def test_a_job_that_crashes_the_service_each_time_is_given_up(tmp_path: Path) -> None:
    service = Service(tmp_path, FakeEngine())
    await service.fill()
    job = await service.start(Stage.STIM)
    await service.catalog(set_state, job.id, JobState.RUNNING, attempts=5, started=1.0)
    async with running(service):
        failed = await service.ended(Stage.STIM)
        assert failed.state is JobState.FAILED
        assert "each of its 5 attempts" in (failed.error or "") and failed.error_code == "INTERRUPTED"
        assert failed.worked_seconds == 0.0, "the time since the service ended is no work"


async def test_jobs_that_this_version_can_t_decode_fail_and_the_others_run(tmp_path: Path) -> None:
    service = Service(tmp_path, FakeEngine())
    await service.fill()
    broken, waiting = await service.start(Stage.STIM), await service.start(Stage.ROLLOUT)
    settings = {"u": "loud", "v": "", "generators": [{"type": "hardcoded", "questions": ["Is it sound?"]}]}
    await service.catalog(targets.put, USER, "repo", "sound", "default", settings, may_change=True)
    sound = await service.jobs.start(Stage.STIM, USER, "repo", "sound")
    await service.catalog(set_config, broken.id, {"temperature": 9.5})
    async with running(service):
        ended = await service.ended(Stage.ROLLOUT)
        assert ended.id == waiting.id and ended.state is JobState.FAILED
        assert f"job {broken.id}, the stim of 'target', was not stored by this version" in (ended.error or "")
        assert (await service.jobs.wait(sound, 60)).state is JobState.COMPLETE


async def test_a_bake_keeps_its_data_and_its_mix_does_not_depend_on_who_finished_first(service: Service) -> None:
    await service.start(Stage.STIM)
    await service.start(Stage.ROLLOUT)
    done = await service.ended(Stage.ROLLOUT)
    rollouts = {"target": done.id}
    config = msgspec.convert({"datasets": [{"target": "target"}]}, BakeConfig)
    first = linked_mix(service.home, service.home / "first", config, rollouts)
    lines = job_folder(service.home, done.id) / "rows.jsonl"
    lines.write_bytes(b"".join(reversed(lines.read_bytes().splitlines(keepends=True))))
    second = linked_mix(service.home, service.home / "second", config, rollouts)
    assert [Path(item).name for item in first.train] == [Path(item).name for item in second.train]
    await service.catalog(targets.delete, USER, "repo", "target")
    assert all(load_trajectory(Path(item)) for item in first.train + first.held_out["target"])


async def test_a_stim_that_asks_no_model_waits_neither_for_the_engine_nor_for_stims_that_do(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.ready.clear()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill()
        asking = {"u": "loud", "v": "", "generators": [{"type": "oneshot_qs", "numq": 2}]}
        slow = []
        for name in ("first", "second", "third", "fourth"):
            await service.catalog(targets.put, USER, "repo", name, "default", asking, may_change=True)
            slow.append(await service.jobs.start(Stage.STIM, USER, "repo", name))
        stim = await service.start(Stage.STIM)
        assert (await service.jobs.wait(stim, 60)).state is JobState.COMPLETE
        standings = [await service.jobs.standing(job) for job in slow]
        kinds = [[reason.kind for reason in standing.waiting_for] for standing in standings]
        assert kinds == [["engine"], ["engine"], ["turn"], ["turn"]]
        assert [standing.queue_position for standing in standings] == [None, None, 1, 2]


async def test_questions_count_as_they_stream_in_and_are_kept_once_complete(tmp_path: Path) -> None:
    def unfinished(text: str) -> str:
        return f"1. Is it item {len(text)}?\n2. Why is it {len(text)}?\n3. What"

    engine = FakeEngine(reply=unfinished)
    engine.gate.clear()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill(generators=[{"type": "oneshot_qs", "numq": 6}])
        job = await service.start(Stage.STIM)
        seen = Standing()
        async with asyncio.timeout(60):
            while seen.lines < 4:
                await asyncio.sleep(0.01)
                seen = await service.jobs.standing(await service.until(Stage.STIM, lambda _: True))
        assert len(read_lines(job_folder(tmp_path, job.id) / "stimuli.jsonl")) == 2, "the second call's come after all"
        assert (seen.lines, seen.progress_percent, seen.waiting_for) == (4, 66.7, [])
        assert seen.eta_seconds is not None and seen.running_seconds is not None
        engine.reply = lambda text: f"{unfinished(text)} is it {len(text)}?"
        engine.gate.set()
        done = await service.ended(Stage.STIM)
        assert (done.state, done.lines) == (JobState.COMPLETE, 6)
        rows = read_lines(job_folder(tmp_path, job.id) / "stimuli.jsonl")
        assert [row["text"].split()[0] for row in rows] == ["Is", "Why", "What", "Is", "Why", "What"]
        assert (await service.jobs.standing(done)).eta_seconds is None


def set_state(catalog: Catalog, job_id: int, state: JobState, **changes: Any) -> None:
    catalog.store.jobs.update(job_id, state=state, **changes)


def set_config(catalog: Catalog, job_id: int, config: dict[str, Any]) -> None:
    catalog.store.jobs.update(job_id, config=config)
