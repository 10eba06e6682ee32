"""The base model's answers to neutral questions, on which the drift of every bake is measured.

A bake should change only what its targets ask for. KL(base || baked) on questions that have nothing to do with the
targets measures what else has changed. The base model answers them once, in a bare conversation, and all its bakes are
measured on the same answers:

    neutral/<key>/<i>-0000.safetensors      one trajectory each, as a rollout stores it

The key is a hash of everything that determines the answers, so another base model gets its own folder.
"""

import asyncio
import hashlib
import shutil
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

from baker.conversation import context_messages
from baker.errors import StageError
from baker.ports import Sampler, ServedModel
from baker.storage.files import new_folder
from baker.storage.home import NEUTRAL
from baker.trajectories.files import load_trajectory, save_trajectory
from baker.trajectories.rollout import RolloutItem, RolloutSettings, rollout, trajectory_name
from baker.types import Prompt, Stimulus

FILE = "neutral_questions.txt"
MAX_TOKENS = 48
"""Longest answer: at most 1,152 tokens in all, about as many as a dozen held-out rows of a usual bake."""
TEMPERATURE, SEED = 1.0, 0
_HASHED_BYTES = 1 << 20


@cache
def questions() -> list[str]:
    """The questions that are part of the package."""
    return resources.files("baker.trajectories").joinpath(FILE).read_text(encoding="utf-8").splitlines()


class NeutralAnswers:
    def __init__(self, home: Path, sampler: Sampler, base: ServedModel, top_logprobs: int) -> None:
        self._folder = home / NEUTRAL
        self._sampler, self._base, self._top_logprobs = sampler, base, top_logprobs
        self._lock = asyncio.Lock()

    async def files(self) -> list[Path]:
        """The trajectories' files in the order of the questions; the model is asked first if they don't exist.

        Raises: EngineError; InvalidInputError or RolloutError if the model can't answer in a bare conversation;
        OSError.
        """
        stimuli = [Stimulus(index, text, "neutral") for index, text in enumerate(questions())]
        async with self._lock:
            folder = self._folder / await self._key(stimuli)
            files = await asyncio.to_thread(_complete_files, folder, len(stimuli))
            return files or await self._answer(stimuli, folder)

    async def _answer(self, stimuli: list[Stimulus], folder: Path) -> list[Path]:
        settings = RolloutSettings(
            teacher=Prompt(),
            student=Prompt(),
            model=self._base.name,
            checkpoint=None,
            trajectories_per_stimulus=1,
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
            max_concurrency=len(stimuli),
            top_logprobs=self._top_logprobs,
            extra_kwargs={"seed": SEED},
        )
        answers: list[RolloutItem] = []

        async def keep(item: RolloutItem) -> None:
            answers.append(item)

        await rollout(stimuli, settings, self._sampler, keep)
        return await asyncio.to_thread(_write, folder, answers)

    async def _key(self, stimuli: list[Stimulus]) -> str:
        """A hash of the model, the contexts (they show its tokenizer and chat template) and the sampling settings."""
        contexts = [await self._sampler.tokenise(context_messages(Prompt(), stimulus.text)) for stimulus in stimuli]
        model = await asyncio.to_thread(_model_hash, self._base.path)
        request = (self._base.name, model, contexts, MAX_TOKENS, TEMPERATURE, SEED, self._top_logprobs)
        return hashlib.sha256(msgspec.json.encode(request)).hexdigest()[:32]


def _model_hash(model: Path) -> str:
    """A hash of the start, the end and the size of each of the model's files; hashing them whole takes too long."""
    digest = hashlib.sha256()
    for path in sorted(model.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_HASHED_BYTES))
            file.seek(max(0, size - _HASHED_BYTES))
            digest.update(file.read())
    return digest.hexdigest()


def _complete_files(folder: Path, count: int) -> list[Path]:
    """The files in `folder` if there are `count` and all can be read; otherwise none."""
    paths = sorted(folder.glob("*.safetensors"))
    try:
        for path in paths:
            load_trajectory(path)
    except StageError:
        return []
    return paths if len(paths) == count else []


def _write(folder: Path, answers: Sequence[RolloutItem]) -> list[Path]:
    """Write all answers or none. Leftovers of a crash or a disk error are deleted first."""
    folder.parent.mkdir(exist_ok=True)
    for leftover in (folder, *folder.parent.glob(".*.tmp")):
        shutil.rmtree(leftover, ignore_errors=True)
    with new_folder(folder) as temporary:
        for item in answers:
            save_trajectory(temporary / trajectory_name(item.row), item.trajectory)
    return sorted(folder.iterdir())
