"""The rollout stage, run by the queue."""

from pathlib import Path

import pytest

from baker.repos import prompts
from baker.status import JobState, Stage
from baker.storage.files import read_lines
from baker.storage.home import job_folder, output_file
from baker.trajectories.files import load_trajectory
from baker.types import Prompt
from tests.baker.jobs.test_queue import USER, Service, running, set_state
from tests.fakes import FakeEngine, decode

pytestmark = pytest.mark.anyio


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


async def test_a_torn_last_line_costs_one_item(tmp_path: Path) -> None:
    async with running(Service(tmp_path, FakeEngine())) as service:
        await service.fill()
        await service.start(Stage.STIM)
        await service.start(Stage.ROLLOUT)
        done = await service.ended(Stage.ROLLOUT)
    lines = job_folder(tmp_path, done.id) / "rows.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])  # as kill -9 in the middle of a write leaves it
    service = Service(tmp_path, FakeEngine())
    await service.catalog(set_state, done.id, JobState.RUNNING)
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
