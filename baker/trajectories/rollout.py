"""The second stage: the prompted teacher answers each stimulus, and its distribution is kept with the answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from baker.conversation import context_messages
from baker.errors import InvalidInputError, RolloutError
from baker.ports import Sampler
from baker.types import (
    Checkpoint,
    Distribution,
    Message,
    ParsedAnswer,
    Prompt,
    Sample,
    SampleRequest,
    Stimulus,
    Trajectory,
)

MOST_AT_ONCE = 256
"""As many sequences as the engine takes into a batch; more would only wait in it, before requests of others."""


class RolloutSettings(msgspec.Struct, frozen=True):
    teacher: Prompt
    student: Prompt
    model: str
    """Shown in the rows."""
    checkpoint: Checkpoint | None
    """Who answers; None: the base model."""
    trajectories_per_stimulus: int
    temperature: float
    max_tokens: int
    max_concurrency: int
    top_logprobs: int
    extra_kwargs: dict[str, Any] = {}


class RolloutItem(msgspec.Struct, frozen=True):
    """One finished item."""

    row: dict[str, Any]
    """For people: what was asked and answered."""
    trajectory: Trajectory
    """For training."""


Keep = Callable[[RolloutItem], Awaitable[None]]


async def rollout(
    stimuli: Sequence[Stimulus],
    settings: RolloutSettings,
    sampler: Sampler,
    keep: Keep,
    done: frozenset[tuple[int, int]] = frozenset(),
) -> None:
    """Answer every stimulus `trajectories_per_stimulus` times, at most `max_concurrency` at once.

    Args:
        keep: awaited once an item, in the order in which they finish.
        done: (stimulus id, trajectory id) of what an interrupted run has kept already.
    Raises: RolloutError for an item that can't be answered; EngineError. What was kept stays.
    """
    todo = (
        (stimulus, index)
        for stimulus in stimuli
        for index in range(settings.trajectories_per_stimulus)
        if (stimulus.id, index) not in done
    )
    items = len(stimuli) * settings.trajectories_per_stimulus - len(done)
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(settings.max_concurrency, items, MOST_AT_ONCE)):
                workers.create_task(_work(todo, settings, sampler, keep))
    except BaseExceptionGroup as group:
        # One broken item ends the stage: its reason is the stage's.
        raise group.exceptions[0] from group


async def _work(todo: Iterator[tuple[Stimulus, int]], settings: RolloutSettings, sampler: Sampler, keep: Keep) -> None:
    for stimulus, index in todo:
        try:
            await keep(await _answer(stimulus, index, settings, sampler))
        except InvalidInputError as error:
            raise RolloutError(f"stimulus {stimulus.id} ({stimulus.text[:80]!r}): {error}") from error


async def _answer(stimulus: Stimulus, index: int, settings: RolloutSettings, sampler: Sampler) -> RolloutItem:
    teacher_ids = await _context_ids(settings.teacher, stimulus, sampler)
    student_ids = await _context_ids(settings.student, stimulus, sampler)
    extra = dict(settings.extra_kwargs)
    seed = extra.pop("seed", None)
    sample = await sampler.sample(
        SampleRequest(
            context_ids=student_ids if stimulus.is_conditioned else teacher_ids,
            adapter=settings.checkpoint,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_logprobs=0 if stimulus.is_conditioned else settings.top_logprobs,
            # One seed for all would make the answers to a stimulus one and the same.
            seed=None if seed is None else seed + stimulus.id * settings.trajectories_per_stimulus + index,
            extra=extra,
        )
    )
    if not sample.response_ids:
        raise RolloutError(f"stimulus {stimulus.id} ({stimulus.text[:80]!r}): the teacher's answer is empty")
    teacher = Distribution(sample.top_ids_TK, sample.top_logprobs_TK)
    if stimulus.is_conditioned:
        teacher = await sampler.distribution(
            teacher_ids, sample.response_ids, settings.top_logprobs, settings.checkpoint
        )
    trajectory = Trajectory(
        teacher_ids=np.asarray(teacher_ids, np.int32),
        student_ids=np.asarray(student_ids, np.int32),
        response_ids=np.asarray(sample.response_ids, np.int32),
        top_ids_TK=teacher.top_ids_TK,
        top_logprobs_TK=teacher.top_logprobs_TK,
        stimulus=stimulus.text,
    )
    prompt = settings.student if stimulus.is_conditioned else settings.teacher
    said = sampler.read_answer(sample, prompt.tools)
    return RolloutItem(row=_row(stimulus, index, prompt, sample, said, settings), trajectory=trajectory)


async def _context_ids(prompt: Prompt, stimulus: Stimulus, sampler: Sampler) -> list[int]:
    return await sampler.tokenise(context_messages(prompt, stimulus.text), prompt.tools)


def _row(
    stimulus: Stimulus, index: int, prompt: Prompt, sample: Sample, said: ParsedAnswer, settings: RolloutSettings
) -> dict[str, Any]:
    answer: Message = {"role": "assistant", "content": said.content}
    if said.tool_calls:
        answer["tool_calls"] = said.tool_calls
    return {
        "stimulus_id": stimulus.id,
        "trajectory_id": index,
        "stimulus": stimulus.text,
        "question": stimulus.text,
        "response": sample.text,
        "model": settings.model,
        "temperature": settings.temperature,
        "tokens": len(sample.response_ids),
        "finish_reason": str(sample.stop_reason),
        "tool_calls": said.tool_calls,
        "messages": [*context_messages(prompt, stimulus.text), answer],
    }


def trajectory_name(row: dict[str, Any]) -> str:
    """Of the file that holds, for training, what `row` shows."""
    return f"{row['stimulus_id']:06d}-{row['trajectory_id']:04d}.safetensors"
