"""The queue with its stages, on real files and a real SQLite file, around an engine with known outputs.

Training has its own tests; the whole chain with a bake runs in tests/test_first_bake.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.config.bake import BakeConfig
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.jobs.queue import Jobs
from baker.jobs.stages import Stages, StageSettings
from baker.model_names import BaseModelNames
from baker.repos import prompts, repos, targets
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.files import read_lines
from baker.storage.home import job_folder, output_file
from baker.storage.job import AnyJob
from baker.storage.one_thread import OneThread
from baker.trajectories.files import load_trajectory
from baker.trajectories.mix import linked_mix
from baker.types import Checkpoint, Prompt
from tests.fakes import FakeEngine, decode

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


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(Service(tmp_path, FakeEngine())) as started:
        await started.fill()
        yield started


async def test_stim_and_rollout_started_in_a_row_both_end_complete(service: Service) -> None:
    await service.start(Stage.STIM)
    rollout = await service.start(Stage.ROLLOUT)
    assert rollout.state is JobState.PENDING
    done = await service.ended(Stage.ROLLOUT)
    assert (done.state, done.lines, done.total_expected, done.progress_percent) == ("complete", 12, 12, 100.0)
    rows = read_lines(job_folder(service.home, done.id) / "rows.jsonl")
    assert {(row["stimulus_id"], row["trajectory_id"]) for row in rows} == {(i, k) for i in range(6) for k in (0, 1)}


async def test_a_trajectory_holds_what_was_asked_and_answered(service: Service) -> None:
    await service.start(Stage.STIM)
    await service.start(Stage.ROLLOUT)
    done = await service.ended(Stage.ROLLOUT)
    folder = job_folder(service.home, done.id)
    trajectory = load_trajectory(folder / "trajectories" / "000003-0001.safetensors")
    assert decode(trajectory.teacher_ids) == "system: Be loud\nuser: Question 3?"
    assert decode(trajectory.student_ids) == "user: Question 3?"
    assert decode(trajectory.response_ids[:-1]) == "SYSTEM: BE LOUD\nUSER: QUESTION 3?"
    assert trajectory.top_ids_TK.shape == (len(trajectory.response_ids), 4)
    assert trajectory.stimulus == "Question 3?"


@pytest.mark.parametrize("renders_tools", [True, False])
async def test_rollouts_carry_tool_calls_and_say_when_tools_are_not_shown(tmp_path: Path, renders_tools: bool) -> None:
    engine = FakeEngine(reply=lambda text: "CALL look" if "1?" in text else "No.")
    engine.renders_tools = renders_tools
    async with running(Service(tmp_path, engine)) as service:
        await service.fill()
        tools = [{"type": "function", "function": {"name": "look"}}]
        loud = Prompt(messages=[{"role": "system", "content": "Be loud"}], tools=tools)
        await service.catalog(prompts.put, USER, "repo", "loud", loud, may_change=True)
        await service.start(Stage.STIM)
        await service.start(Stage.ROLLOUT)
        done = await service.ended(Stage.ROLLOUT)
        rows = read_lines(output_file(service.home, done))
    calling = [row for row in rows if row["stimulus_id"] == 1]
    assert all(row["tool_calls"][0]["function"]["name"] == "look" for row in calling)
    assert all(row["messages"][-1]["tool_calls"] == row["tool_calls"] for row in calling)
    assert all(not row["tool_calls"] and "tool_calls" not in row["messages"][-1] for row in rows if row not in calling)
    assert any("does not show tools" in warning for warning in done.warnings) is not renders_tools


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
        await service.fill()
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


async def test_rollouts_stay_within_max_concurrency(tmp_path: Path) -> None:
    async with running(Service(tmp_path, FakeEngine())) as service:
        await service.fill(max_concurrency=3)
        await service.start(Stage.STIM)
        await service.start(Stage.ROLLOUT)
        await service.ended(Stage.ROLLOUT)
        assert service.engine.most_running == 3


async def test_each_answer_of_a_seeded_rollout_has_a_seed_of_its_own(tmp_path: Path) -> None:
    async with running(Service(tmp_path, FakeEngine())) as service:
        await service.fill(extra_kwargs={"seed": 100, "top_p": 0.5})
        await service.start(Stage.STIM)
        await service.start(Stage.ROLLOUT)
        await service.ended(Stage.ROLLOUT)
        assert sorted(request.seed or 0 for request in service.engine.requests) == list(range(100, 112))
        assert all(request.extra == {"top_p": 0.5} for request in service.engine.requests)


async def test_a_stopped_service_goes_on_after_the_last_item_kept(tmp_path: Path) -> None:
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


async def test_a_torn_last_line_costs_one_item(tmp_path: Path) -> None:
    async with running(Service(tmp_path, FakeEngine())) as service:
        await service.fill()
        await service.start(Stage.STIM)
        await service.start(Stage.ROLLOUT)
        done = await service.ended(Stage.ROLLOUT)
    lines = job_folder(tmp_path, done.id) / "rows.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])  # as kill -9 in the middle of a write leaves it
    service = Service(tmp_path, FakeEngine())
    await service.catalog(_set_state, done.id, JobState.RUNNING)
    async with running(service) as again:
        assert (await again.until(Stage.ROLLOUT, lambda job: job.state is JobState.COMPLETE)).lines == 12
        assert len(again.engine.requests) == 1


async def test_a_broken_item_fails_the_stage_with_its_reason_and_keeps_the_rest(tmp_path: Path) -> None:
    async with running(Service(tmp_path, FakeEngine())) as service:
        questions = {"type": "hardcoded", "questions": ["Good?", "UNRENDERABLE?", "Never asked?"]}
        await service.fill(generators=[questions], max_concurrency=1, num_traj_per_stimulus=1)
        await service.start(Stage.STIM)
        await service.start(Stage.ROLLOUT)
        job = await service.ended(Stage.ROLLOUT)
        assert (job.state, job.lines) == (JobState.FAILED, 1)
        assert "stimulus 1" in (job.error or "")
        assert "refuses" in (job.error or "") and job.error_code == "ROLLOUT_FAILED"


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


async def test_a_stim_warns_while_it_runs_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.csv").write_text("question\nWho?\nWhere?\n")
    engine = FakeEngine(reply=lambda _: "1. Is it one?\n2. Is it two?")
    generators = [{"type": "from_dataset", "dataset": "mine"}, {"type": "oneshot_qs", "numq": 2}]
    engine.gate.clear()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill(generators=generators)
        await service.start(Stage.STIM)
        await engine.asked.wait()
        stopped = await service.until(Stage.STIM, lambda job: job.lines == 2)
        assert "2 distinct questions, fewer than the 10" in stopped.warnings[0]
    engine.gate.set()
    async with running(Service(tmp_path, engine)) as again:
        done = await again.ended(Stage.STIM)
    assert (done.state, done.lines, done.progress_percent) == (JobState.COMPLETE, 4, 100.0)
    assert done.warnings == stopped.warnings, "it is not said twice"
    rows = read_lines(job_folder(tmp_path, done.id) / "stimuli.jsonl")
    assert [(row["id"], row["generator"], row["source"]) for row in rows] == [
        (0, "from_dataset", 0),
        (1, "from_dataset", 0),
        (2, "oneshot_qs", 1),
        (3, "oneshot_qs", 1),
    ]
    assert {row["text"] for row in rows} == {"Who?", "Where?", "Is it one?", "Is it two?"}


async def test_a_broken_dataset_fails_the_stim_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.jsonl").write_text('{"question": "Who?"}\noops\n')
    async with running(Service(tmp_path, FakeEngine())) as service:
        await service.fill(generators=[{"type": "from_dataset", "dataset": "mine"}])
        await service.start(Stage.STIM)
        job = await service.ended(Stage.STIM)
    assert (job.state, job.lines) == (JobState.FAILED, 0)
    assert "mine.jsonl, line 2" in (job.error or "")


async def test_a_seeded_stim_asks_the_engine_the_same_again(tmp_path: Path) -> None:
    sent = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        engine = FakeEngine(reply=lambda text: f"1. Is it {len(text)} or what?")
        async with running(Service(folder, engine)) as service:
            await service.fill(generators=[{"type": "oneshot_qs", "numq": 2, "seed": 5, "temperature": 0.5}])
            await service.start(Stage.STIM)
            await service.ended(Stage.STIM)
        sent.append(sorted((request.seed, request.temperature) for request in engine.requests))
    assert sent[0] == sent[1]
    assert [seed for seed, _ in sent[0]] == list(range(5, 5 + len(sent[0])))


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


async def test_a_job_that_takes_the_service_down_each_time_is_given_up(tmp_path: Path) -> None:
    service = Service(tmp_path, FakeEngine())
    await service.fill()
    job = await service.start(Stage.STIM)
    await service.catalog(_set_state, job.id, JobState.RUNNING, attempts=5)
    async with running(service):
        failed = await service.ended(Stage.STIM)
        assert failed.state is JobState.FAILED
        assert "each of its 5 attempts" in (failed.error or "") and failed.error_code == "INTERRUPTED"


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


def _set_state(catalog: Catalog, job_id: int, state: JobState, **changes: Any) -> None:
    catalog.store.jobs.update(job_id, state=state, **changes)
