"""The rollout with a fake engine; tests/baker/jobs/test_queue.py tests it as a job."""

import asyncio
from typing import Any

import msgspec
import pytest

from baker.errors import RolloutError
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


async def roll_out(
    stimuli: list[Stimulus],
    engine: FakeEngine,
    done: frozenset[tuple[int, int]] = frozenset(),
    **settings: Any,
) -> list[RolloutItem]:
    kept: list[RolloutItem] = []

    async def keep(item: RolloutItem) -> None:
        kept.append(item)

    await rollout(stimuli, msgspec.structs.replace(SETTINGS, **settings), engine, keep, done)
    return kept


def ask(*texts: str) -> list[Stimulus]:
    return [Stimulus(id=number, text=text, generator="hardcoded") for number, text in enumerate(texts)]


async def test_each_answer_has_its_own_seed_and_the_same_one_in_every_run() -> None:
    settings: dict[str, Any] = {"trajectories_per_stimulus": 3, "extra_kwargs": {"seed": 100, "top_p": 0.5}}
    engines = FakeEngine(), FakeEngine()
    await roll_out(ask("One?", "Two?"), engines[0], max_concurrency=1, **settings)
    await roll_out(ask("One?", "Two?"), engines[1], max_concurrency=4, **settings)
    for engine in engines:
        assert sorted(request.seed or 0 for request in engine.requests) == [100, 101, 102, 103, 104, 105]
        assert all(request.extra == {"top_p": 0.5} for request in engine.requests)
    by_seed = [{request.seed: decode(request.context_ids) for request in engine.requests} for engine in engines]
    assert by_seed[0] == by_seed[1]


async def test_answers_of_an_interrupted_run_are_not_given_again() -> None:
    engine = FakeEngine()
    done = frozenset({(0, 0), (0, 1), (1, 1)})
    items = await roll_out(ask("One?", "Two?"), engine, done, trajectories_per_stimulus=2)
    assert [(item.row["stimulus_id"], item.row["trajectory_id"]) for item in items] == [(1, 0)]
    assert len(engine.requests) == 1


async def test_a_stimulus_that_the_chat_template_refuses_is_named_and_earlier_answers_are_kept() -> None:
    kept: list[RolloutItem] = []

    async def keep(item: RolloutItem) -> None:
        kept.append(item)

    with pytest.raises(RolloutError, match=r"stimulus 1 \('UNRENDERABLE'\): the chat template refuses this"):
        await rollout(ask("One?", "UNRENDERABLE", "Three?"), SETTINGS, FakeEngine(), keep)
    assert [item.row["stimulus"] for item in kept] == ["One?"]


async def test_a_tool_call_is_separated_from_the_text_and_shown_in_the_messages() -> None:
    engine = FakeEngine(reply=lambda _: "CALL weather")
    teacher = msgspec.structs.replace(SETTINGS.teacher, tools=[{"type": "function", "function": {"name": "weather"}}])
    (item,) = await roll_out(ask("Rain?"), engine, teacher=teacher)
    answer = item.row["messages"][-1]
    assert answer["content"] is None
    assert answer["tool_calls"] == item.row["tool_calls"]
    assert answer["tool_calls"][0]["function"]["name"] == "weather"
