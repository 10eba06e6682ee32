"""On-policy rounds of a bake: the student answers the questions that it is trained on, the teacher judges the answers.

    rounds/<number>/round.json                      what the round is made of
    rounds/<number>/trajectories/<i>.safetensors    the answers so far

Each answer is kept before the next step counts on it, so an interrupted round goes on where it was. Questions, contexts
and teacher are those of the training part of the mix: nothing that is held out is ever asked.
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
from baker.trajectories.files import load_trajectory, save_trajectory
from baker.types import Checkpoint, SampleRequest, Trajectory

AT_ONCE = 32
"""Answers that the engine makes side by side: a share of its batch, since others are served too."""

Note = Callable[[int], Awaitable[None]]


class RoundRecord(msgspec.Struct, frozen=True):
    """round.json"""

    first_step: int
    """Steps of training before it, and the number of the checkpoint that answers."""
    before: Progress | None
    """The last that was heard of the training."""
    train: list[str] | None = None
    """Trajectories to train on, relative to the bake's folder; None: not all answers are there yet."""


class RoundStore:
    """What is kept of a bake's rounds."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: the bake's."""
        self._folder = folder

    def begin(self, number: int, first_step: int, before: Progress | None) -> None:
        """Another round after so many steps; one that was begun after them before stands as it is."""
        file = self._file(number)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, RoundRecord(first_step, before))

    def complete(self, number: int, train: Sequence[Path]) -> RoundRecord:
        """Say what the round trains on."""
        names = [str(path.relative_to(self._folder)) for path in train]
        made = msgspec.structs.replace(self.read(number), train=names)
        write_json(self._file(number), made)
        return made

    def read(self, number: int) -> RoundRecord:
        return msgspec.json.decode(self._file(number).read_bytes(), type=RoundRecord)

    def number_at(self, step: int) -> int:
        """The round that a training with so many steps behind it stands in; 0: before them."""
        number = 0
        while self._file(number + 1).exists() and self.read(number + 1).first_step <= step:
            number += 1
        return number

    def answers(self, number: int) -> Path:
        """The folder of a round's answers."""
        return self._file(number).with_name("trajectories")

    def _file(self, number: int) -> Path:
        return self._folder / "rounds" / str(number) / "round.json"


class JudgedAnswers(msgspec.Struct, frozen=True):
    files: list[Path]
    """In the order of their questions."""
    refused: list[str]
    """Why the others are not there."""


class AnswerSettings(msgspec.Struct, frozen=True):
    """Who answers in a round, who judges, and how."""

    config: OnPolicyConfig
    student: Checkpoint
    teacher: Checkpoint | None
    """None: the base model."""
    top_logprobs: int
    seed: str
    """Of the round; each answer has its own by its number."""


def draw_rows(files: Sequence[str], count: int, seed: str) -> list[str]:
    """So many of a mix, by chance: all of them once before one comes again."""
    chance, found = random.Random(seed), list[str]()
    while len(found) < count:
        found += chance.sample(files, k=min(len(files), count - len(found)))
    return found


async def answer_and_judge(
    asked: Sequence[str], folder: Path, settings: AnswerSettings, sampler: Sampler, note: Note
) -> JudgedAnswers:
    """Let the student answer where each trajectory of `asked` begins, and the teacher judge it.

    Args:
        asked: files of the mix, of which questions and contexts are taken.
        folder: of the answers; those that are there are not made again.
        note: awaited with the number of answers whenever there is another.
    Raises: RolloutError; EngineError. What was kept stays.
    """
    rows = await asyncio.to_thread(_read, asked)
    most = settings.config.max_tokens or max(len(row.response_ids) for row in rows)
    files = [folder / f"{index:06d}.safetensors" for index in range(len(rows))]
    kept = await asyncio.to_thread(_names_in, folder)
    refused: list[str] = []
    await note(len(kept))

    async def work(todo: Iterator[tuple[int, Trajectory]]) -> None:
        for index, row in todo:
            try:
                judged = await _judged(row, f"{settings.seed}/{index}", most, settings, sampler)
            except InvalidInputError as error:
                refused.append(f"{row.stimulus[:80]!r}: {error}")
                continue
            await asyncio.to_thread(save_trajectory, files[index], judged)
            kept.add(files[index].name)
            await note(len(kept))

    left = ((index, row) for index, row in enumerate(rows) if files[index].name not in kept)
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(AT_ONCE, len(rows))):
                workers.create_task(work(left))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    made = [file for file in files if file.name in kept]
    if not made:
        raise RolloutError(f"the student could answer nothing of an on-policy round: {refused[0]}")
    return JudgedAnswers(made, refused)


def _read(files: Sequence[str]) -> list[Trajectory]:
    return [load_trajectory(Path(name)) for name in files]


def _names_in(folder: Path) -> set[str]:
    folder.mkdir(exist_ok=True)
    return {path.name for path in folder.glob("*.safetensors")}


async def _judged(row: Trajectory, seed: str, most: int, settings: AnswerSettings, sampler: Sampler) -> Trajectory:
    sample = await sampler.sample(
        SampleRequest(
            context_ids=row.student_ids.tolist(),
            adapter=settings.student,
            max_tokens=most,
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
