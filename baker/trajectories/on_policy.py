"""On-policy rounds of a bake: the student answers the questions it is trained on, and the teacher judges the answers.

    rounds/<number>/round.json                      the round's `RoundRecord`
    rounds/<number>/trajectories/<i>.safetensors    the answers so far

Each answer is stored when it has been judged, so an interrupted round resumes where it stopped. Questions, contexts and
teacher are those of the training part of the mix; held-out questions are never asked.
Source: on-policy distillation, arXiv:2306.13649.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from baker.config.data import OnPolicyConfig
from baker.errors import InvalidInputError, RolloutError
from baker.ports import Sampler
from baker.status import Progress
from baker.storage.files import write_json
from baker.storage.home import ROUND, ROUNDS, TRAJECTORIES
from baker.trajectories.files import load_trajectory, save_trajectory
from baker.types import Checkpoint, SampleRequest, Trajectory

MAX_CONCURRENT = 32
"""Answers that the engine samples at the same time: a part of its batch, since it also serves other requests."""

ReportCount = Callable[[int], Awaitable[None]]


class RoundRecord(msgspec.Struct, frozen=True):
    """The contents of round.json."""

    first_step: int
    """Number of training steps before the round; also the step of the checkpoint that answers."""
    before: Progress | None
    """Last progress reported by the training before the round."""
    train: list[str] | None = None
    """Paths of the trajectories to train on, relative to the bake's folder; None while answers are missing."""


class RoundStore:
    """The files of a bake's rounds."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the bake's."""
        self._folder = folder

    def begin(self, number: int, first_step: int, before: Progress | None) -> None:
        """Create the round's record; a record that exists is kept."""
        file = self._file(number)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, RoundRecord(first_step, before))

    def complete(self, number: int, train: Sequence[Path]) -> RoundRecord:
        """Record the trajectories that the round trains on."""
        names = [str(path.relative_to(self._folder)) for path in train]
        record = msgspec.structs.replace(self.read(number), train=names)
        write_json(self._file(number), record)
        return record

    def read(self, number: int) -> RoundRecord:
        return msgspec.json.decode(self._file(number).read_bytes(), type=RoundRecord)

    def number_at(self, step: int) -> int:
        """Number of the round that a training is in after `step` steps; 0: before the first round."""
        number = 0
        while self._file(number + 1).exists() and self.read(number + 1).first_step <= step:
            number += 1
        return number

    def answers(self, number: int) -> Path:
        """The folder of a round's answers."""
        return self._file(number).with_name(TRAJECTORIES)

    def _file(self, number: int) -> Path:
        return self._folder / ROUNDS / str(number) / ROUND


class AnswerSettings(msgspec.Struct, frozen=True):
    """The models that answer and judge in a round, and how."""

    config: OnPolicyConfig
    student: Checkpoint
    """Adapter that answers."""
    teacher: Checkpoint | None
    """Adapter that judges; None: the base model alone."""
    top_logprobs: int
    """Number of likeliest tokens to keep from the teacher."""
    seed: str
    """Seed of the round; each answer gets its own from it and its number."""


class JudgedAnswers(msgspec.Struct, frozen=True):
    files: list[Path]
    """Trajectory files of the answers, in the order of their questions."""
    refused: list[str]
    """Questions that could not be answered or judged, each with its error."""


def draw_rows(files: Sequence[str], count: int, seed: str) -> list[str]:
    """`count` random files of a mix; each comes once before any comes again."""
    chance, rows = random.Random(seed), list[str]()
    while len(rows) < count:
        rows += chance.sample(files, k=min(len(files), count - len(rows)))
    return rows


async def answer_and_judge(
    asked: Sequence[str], folder: Path, settings: AnswerSettings, sampler: Sampler, report_count: ReportCount
) -> JudgedAnswers:
    """Let the student answer the question of each trajectory in `asked`, and the teacher judge the answers.

    Args:
        asked: trajectory files of the mix; their questions and contexts are used.
        folder: folder of the answers; answers that it already holds are kept.
        report_count: awaited with the number of answers whenever it changes.
    Raises: RolloutError if no question could be answered; EngineError. Answers kept so far stay.
    """
    rows = await asyncio.to_thread(_read, asked)
    max_tokens = settings.config.max_tokens or max(len(row.response_ids) for row in rows)
    files = [folder / f"{index:06d}.safetensors" for index in range(len(rows))]
    kept = await asyncio.to_thread(_names_in, folder)
    refused: list[str] = []
    await report_count(len(kept))

    async def work(todo: Iterator[tuple[int, Trajectory]]) -> None:
        for index, row in todo:
            try:
                judged = await _answer_and_judge(row, f"{settings.seed}/{index}", max_tokens, settings, sampler)
            except InvalidInputError as error:
                refused.append(f"{row.stimulus[:80]!r}: {error}")
                continue
            await asyncio.to_thread(save_trajectory, files[index], judged)
            kept.add(files[index].name)
            await report_count(len(kept))

    unanswered = ((index, row) for index, row in enumerate(rows) if files[index].name not in kept)
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(MAX_CONCURRENT, len(rows))):
                workers.create_task(work(unanswered))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    answered = [file for file in files if file.name in kept]
    if not answered:
        raise RolloutError(f"no question of an on-policy round could be answered; the first: {refused[0]}")
    return JudgedAnswers(answered, refused)


def _read(files: Sequence[str]) -> list[Trajectory]:
    return [load_trajectory(Path(name)) for name in files]


def _names_in(folder: Path) -> set[str]:
    folder.mkdir(exist_ok=True)
    return {path.name for path in folder.glob("*.safetensors")}


async def _answer_and_judge(
    row: Trajectory, seed: str, max_tokens: int, settings: AnswerSettings, sampler: Sampler
) -> Trajectory:
    sample = await sampler.sample(
        SampleRequest(
            context_ids=row.student_ids.tolist(),
            adapter=settings.student,
            max_tokens=max_tokens,
            temperature=settings.config.temperature,
            seed=random.Random(seed).getrandbits(31),
        )
    )
    teacher = await sampler.distribution(
        row.teacher_ids.tolist(), sample.response_ids, settings.top_logprobs, settings.teacher
    )
    return Trajectory(
        teacher_ids=row.teacher_ids,
        student_ids=row.student_ids,
        response_ids=np.asarray(sample.response_ids, np.int32),
        top_ids_TK=teacher.top_ids_TK,
        top_logprobs_TK=teacher.top_logprobs_TK,
        stimulus=row.stimulus,
    )
