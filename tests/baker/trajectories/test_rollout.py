"""The rollout with a fake engine; tests/baker/jobs/test_queue.py tests it as a job."""

import asyncio

import msgspec
import pytest

from baker.trajectories.rollout import RolloutItem, RolloutSettings, rollout
from baker.types import Prompt, Stimulus
from tests.fakes import FakeEngine, decode

pytestmark = pytest.mark.anyio


SETTINGS = RolloutSettings(
    teacher=Prompt(messages=[{"role": "system", "content": "Be loud"}]),
    student=Prompt(messages=[{"role": "system", "content": "Be plain"}]),
    model="fake/base",
    checkpoint=None,
    trajectories_per_stimulus=1,
    temperature=1.0,
    max_tokens=64,
    max_concurrency=1,
    top_logprobs=4,
)


async def test_there_are_no_more_workers_than_questions() -> None:
    engine = FakeEngine()
    stimuli = [Stimulus(id=number, text="Question?", generator="hardcoded") for number in range(3)]

    async def keep(rolled: RolloutItem) -> None:
        tasks.append(len(asyncio.all_tasks() - others))

    others, tasks = asyncio.all_tasks(), list[int]()
    await rollout(stimuli, msgspec.structs.replace(SETTINGS, max_concurrency=10**9), engine, keep)
    assert len(tasks) == 3
    assert max(tasks) <= 3


async def test_a_conditioned_stimulus_is_answered_under_the_student_prompt_and_judged_by_the_teacher() -> None:
    engine = FakeEngine()
    conditioned = Stimulus(id=0, text="Question?", generator="hardcoded", is_conditioned=True)
    kept: list[RolloutItem] = []

    async def keep(rolled: RolloutItem) -> None:
        kept.append(rolled)

    await rollout([conditioned], SETTINGS, engine, keep)
    trajectory = kept[0].trajectory
    assert decode(trajectory.response_ids[:-1]) == "SYSTEM: BE PLAIN\nUSER: QUESTION?"
    assert [(decode(context), response) for context, response in engine.judged] == [
        ("system: Be loud\nuser: Question?", trajectory.response_ids.tolist())
    ]
    assert (trajectory.top_ids_TK[:, 0] == trajectory.response_ids).all(), "the teacher's distribution for the answer"
    assert kept[0].row["messages"][0]["content"] == "Be plain"
