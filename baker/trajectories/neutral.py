"""The base model's own answers to plain questions, from which every bake learns how far it drifted.

A bake shall change what its targets ask for and nothing else: KL(base || baked) on questions that have nothing to do
with them tells what else was changed. They are asked in a bare conversation. The answers are made once per base model,
and all its bakes are measured on the same ones:

    neutral/<key>/<i>-0000.safetensors      a trajectory each, as a rollout keeps it

The key follows from all that decides the answers, so a base model that is replaced gets its own.
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
from baker.trajectories.files import load_trajectory, save_trajectory
from baker.trajectories.rollout import RolloutItem, RolloutSettings, rollout, trajectory_name
from baker.types import Prompt, Stimulus

FILE = "neutral_questions.txt"
MAX_TOKENS = 48
"""Of an answer: at most 1,152 in all, about as many as a dozen held-out rows of a usual bake have."""
TEMPERATURE, SEED = 1.0, 0
_LOOK_BYTES = 1 << 20


@cache
def questions() -> list[str]:
    """Those that ship with the package."""
    return resources.files("baker.trajectories").joinpath(FILE).read_text(encoding="utf-8").splitlines()


class NeutralAnswers:
    def __init__(self, home: Path, sampler: Sampler, base: ServedModel, top_logprobs: int) -> None:
        self._folder = home / "neutral"
        self._sampler, self._base, self._top_logprobs = sampler, base, top_logprobs
        self._making = asyncio.Lock()

    async def files(self) -> list[Path]:
        """The trajectories' files, in the order of the questions; made if there are none.

        Raises: EngineError; InvalidInputError or RolloutError if the model can't be asked in a bare conversation;
        OSError.
        """
        stimuli = [Stimulus(index, text, "neutral") for index, text in enumerate(questions())]
        async with self._making:
            folder = self._folder / await self._key(stimuli)
            found = await asyncio.to_thread(_read, folder, len(stimuli))
            return found or await self._make(stimuli, folder)

    async def _make(self, stimuli: list[Stimulus], folder: Path) -> list[Path]:
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
        rolled: list[RolloutItem] = []

        async def keep(item: RolloutItem) -> None:
            rolled.append(item)

        await rollout(stimuli, settings, self._sampler, keep)
        return await asyncio.to_thread(_write, folder, rolled)

    async def _key(self, stimuli: list[Stimulus]) -> str:
        """Of the model, its tokenizer and chat template (which the contexts show), and what is asked of it."""
        contexts = [await self._sampler.tokenise(context_messages(Prompt(), stimulus.text)) for stimulus in stimuli]
        model = await asyncio.to_thread(_look, self._base.path)
        asked = (self._base.name, model, contexts, MAX_TOKENS, TEMPERATURE, SEED, self._top_logprobs)
        return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:32]


def _look(model: Path) -> str:
    """A hash of the model's files: of the beginning, the end and the size of each, since all of it takes too long."""
    digest = hashlib.sha256()
    for path in sorted(model.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_LOOK_BYTES))
            file.seek(max(0, size - _LOOK_BYTES))
            digest.update(file.read())
    return digest.hexdigest()


def _read(folder: Path, count: int) -> list[Path]:
    """The files in `folder`; none unless they are all there and whole."""
    paths = sorted(folder.glob("*.safetensors"))
    try:
        for path in paths:
            load_trajectory(path)
    except StageError:
        return []
    return paths if len(paths) == count else []


def _write(folder: Path, rolled: Sequence[RolloutItem]) -> list[Path]:
    """Keep all or nothing. What a crash or a broken disk left there goes first."""
    folder.parent.mkdir(exist_ok=True)
    for left in (folder, *folder.parent.glob(".*.tmp")):
        shutil.rmtree(left, ignore_errors=True)
    with new_folder(folder) as temporary:
        for item in rolled:
            save_trajectory(temporary / trajectory_name(item.row), item.trajectory)
    return sorted(folder.iterdir())
