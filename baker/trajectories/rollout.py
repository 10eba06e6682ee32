"""The second stage: the prompted teacher answers each stimulus; its distribution is stored with the answer."""

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

MAX_CONCURRENT = 256
"""Most concurrent requests: the number of sequences in an engine batch. More would only queue ahead of other users."""


class RolloutSettings(msgspec.Struct, frozen=True):
    teacher: Prompt
    student: Prompt
    model: str
    """Name of the answering model, shown in the rows."""
    checkpoint: Checkpoint | None
    """Adapter of the answering model; None: the base model alone."""
    trajectories_per_stimulus: int
    temperature: float
    max_tokens: int
    max_concurrency: int
    top_logprobs: int
    extra_kwargs: dict[str, Any] = {}


class RolloutItem(msgspec.Struct, frozen=True):
    """One answer to one stimulus."""

    row: dict[str, Any]
    """The question and the answer, for people."""
    trajectory: Trajectory
    """The tokens and distributions, for training."""


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
        keep: awaited for each item, in the order in which they finish.
        done: (stimulus id, trajectory id) of the items that an interrupted run has kept already.
    Raises: RolloutError for a stimulus that can't be answered; EngineError. Items kept so far stay.
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
            for _ in range(min(settings.max_concurrency, items, MAX_CONCURRENT)):
                workers.create_task(_work(todo, settings, sampler, keep))
    except BaseExceptionGroup as group:
        # One failed item ends the stage, so its error is the stage's error.
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
            # With a single seed, all answers to a stimulus would be the same.
            seed=None if seed is None else seed + stimulus.id * settings.trajectories_per_stimulus + index,
            extra=extra,
        )
    )
    if not sample.response_ids:
        raise RolloutError(f"stimulus {stimulus.id} ({stimulus.text[:80]!r}): the answer is empty")
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
    answer = sampler.read_answer(sample, prompt.tools)
    return RolloutItem(row=_row(stimulus, index, prompt, sample, answer, settings), trajectory=trajectory)


async def _context_ids(prompt: Prompt, stimulus: Stimulus, sampler: Sampler) -> list[int]:
    return await sampler.tokenise(context_messages(prompt, stimulus.text), prompt.tools)


def _row(
    stimulus: Stimulus, index: int, prompt: Prompt, sample: Sample, answer: ParsedAnswer, settings: RolloutSettings
) -> dict[str, Any]:
    message: Message = {"role": "assistant", "content": answer.content}
    if answer.tool_calls:
        message["tool_calls"] = answer.tool_calls
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
        "tool_calls": answer.tool_calls,
        "messages": [*context_messages(prompt, stimulus.text), message],
    }


def trajectory_name(row: dict[str, Any]) -> str:
    """Name of the file that holds the trajectory of `row`."""
    return f"{row['stimulus_id']:06d}-{row['trajectory_id']:04d}.safetensors"
