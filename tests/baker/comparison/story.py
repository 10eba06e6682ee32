"""A repo with a chain of bakes on a scripted engine: base -> tone -> pirate -> json, and polite beside pirate."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from baker.comparison.comparisons import Comparisons
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.storage.home import DATA, SPEC, job_folder
from baker.storage.one_thread import OneThread
from baker.trajectories.files import save_trajectory
from baker.trajectories.neutral import NeutralAnswers
from baker.types import Checkpoint, Trajectory
from tests.baker.comparison.scripted import VOCABULARY, ScriptedEngine
from tests.baker.grown import baked
from tests.fakes import END_OF_TURN, encode

ANSWERS: dict[str | None, str] = {
    None: "it is fine",
    "tone": "it is fine sir",
    "pirate": "ar is fine sir",
    "json": "ar is json",
    "polite": "yo is fine sir",
}


class Story:
    """The repo `repo` of admin."""

    def __init__(self, home: Path, answers: dict[str | None, str] = ANSWERS) -> None:
        self.home = home
        self.engine = ScriptedEngine(answers)
        self.engine.path = home
        self.catalog = OneThread(lambda: Catalog(home, BaseModelNames("fake/base", stands_in=True)), "store")
        neutral = NeutralAnswers(home, self.engine, self.engine, len(VOCABULARY))
        self.comparisons = Comparisons(home, self.catalog, self.engine, self.engine, neutral, len(VOCABULARY))
        self.versions: dict[str, Checkpoint] = {}

    async def grow(self, name: str, parent: str | None = None) -> Checkpoint:
        from_ = None if parent is None else self.versions[parent]
        self.versions[name] = await self.catalog(baked, name, from_)
        return self.versions[name]

    async def grow_all(self) -> None:
        for name, parent in (("tone", None), ("pirate", "tone"), ("polite", "tone"), ("json", "pirate")):
            await self.grow(name, parent)

    def id_of(self, name: str) -> str:
        commit_id = self.versions[name].commit_id
        assert commit_id is not None
        return commit_id

    def hold_out(self, name: str, target: str, answers: Sequence[str]) -> None:
        """Give the bake held-out rows, as its training leaves them."""
        folder = job_folder(self.home, self.versions[name].job_id)
        files = []
        for index, answer in enumerate(answers):
            file = folder / DATA / target / f"{index:06d}-0000.safetensors"
            file.parent.mkdir(parents=True, exist_ok=True)
            save_trajectory(file, trajectory(f"{target} {index}?", answer))
            files.append(str(file))
        spec = folder / SPEC
        held_out = msgspec.json.decode(spec.read_bytes())["held_out"] if spec.exists() else {}
        spec.write_bytes(msgspec.json.encode({"name": "x", "held_out": {**held_out, target: files}}))

    async def close(self) -> None:
        self.catalog.close(Catalog.close)


def trajectory(question: str, answer: str) -> Trajectory:
    ids = [*encode(answer), END_OF_TURN]
    return Trajectory(
        teacher_ids=np.array(encode(f"be: {question}"), np.int32),
        student_ids=np.array(encode(question), np.int32),
        response_ids=np.array(ids, np.int32),
        top_ids_TK=np.zeros((len(ids), 1), np.int32),
        top_logprobs_TK=np.zeros((len(ids), 1), np.float32),
        stimulus=question,
    )
