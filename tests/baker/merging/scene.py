"""Two bakes on the base model, with adapters and held-out rows, and an engine whose versions each say one thing."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from baker.adapters.files import content_hash
from baker.comparison import probes
from baker.config.bake import bake_config
from baker.errors import AdapterError
from baker.history.revisions import RepoView
from baker.merge_report import MergeReport
from baker.merging.merger import Merger, Start
from baker.merging.plan import plan_merge
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.status import Loss
from baker.storage.files import write_json
from baker.storage.home import ALGEBRA, DATA, SPEC, checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.storage.one_thread import OneThread
from baker.trajectories.files import save_trajectory
from baker.trajectories.neutral import NeutralAnswers
from baker.types import Checkpoint, Distribution, SavedCheckpoint, Trajectory
from baker.versions.publishing import Bake, Result
from tests.baker.adapters.dense import MODULES, adapter
from tests.baker.comparison.scripted import SURE, VOCABULARY, ScriptedEngine
from tests.baker.grown import baked
from tests.fakes import encode

RANKS = {MODULES[0]: 2}


MERGED = "both~"
"""Name under which the engine serves the merge's checkpoint while it is measured."""


class Publisher:
    """Serves everything, unless it is told that an adapter is broken."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.complaint: str | None = None

    async def prove(self, checkpoint: Checkpoint) -> None:
        if self.complaint is not None:
            raise AdapterError(self.complaint)
        assert (checkpoint.path / "parity.json").exists()
        self.served.append(checkpoint.name)

    async def retire(self, checkpoint: Checkpoint) -> None:
        self.served.remove(checkpoint.name)

    def register(self, checkpoint: Checkpoint) -> None:
        raise AssertionError("a merge publishes nothing by itself")

    publish = register

    def show(self, view: RepoView) -> None:
        raise AssertionError("a merge moves no name by itself")


class MergedEngine(ScriptedEngine):
    """As the scripted one, but a merge without a script keeps everything: it expects each answer that it is shown."""

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        if adapter is None or adapter.bake != MERGED or MERGED in self.answers:
            return await super().distribution(context_ids, response_ids, top_logprobs, adapter)
        self._note("distribution", adapter)
        others = [(1 - SURE) / (len(VOCABULARY) - 1)] * (len(VOCABULARY) - 1)
        ids = [[token, *(other for other in VOCABULARY if other != token)] for token in response_ids]
        logprobs = np.tile(np.log([SURE, *others]), (len(ids), 1))
        return Distribution(np.array(ids, np.int32), logprobs.astype(np.float32))


class Scene:
    """The repo `repo` of admin. `said` is what the merge's checkpoint says; None: it keeps everything of both."""

    def __init__(self, home: Path, pirate: str, yoda: str, said: str | None) -> None:
        self.home = home
        scripts: dict[str | None, str] = {None: "it is fine", "pirate": pirate, "yoda": yoda}
        self.engine = MergedEngine(scripts if said is None else {**scripts, MERGED: said})
        self.engine.path = home
        self.publisher = Publisher()
        self.catalog = OneThread(lambda: Catalog(home, BaseModelNames("fake/base", stands_in=True)), "store")
        neutral = NeutralAnswers(home, self.engine, self.engine, len(VOCABULARY))
        self.merger = Merger(home, self.catalog, self.engine, self.engine, self.publisher, neutral, len(VOCABULARY))
        self.versions: dict[str, Checkpoint] = {}
        self.warnings: list[str] = []
        self.trained: list[Start | None] = []

    async def grow(self, name: str, questions: Sequence[str], seed: int) -> None:
        version = await self.catalog(baked, name)
        adapter(version.path, seed=seed, ranks=RANKS)
        folder = job_folder(self.home, version.job_id)
        files = []
        for index, question in enumerate(questions):
            file = folder / DATA / name / f"{index}.safetensors"
            file.parent.mkdir(parents=True, exist_ok=True)
            save_trajectory(file, self._trajectory(version, question))
            files.append(str(file))
        train, held_out = files[: len(files) // 2], files[len(files) // 2 :]
        (folder / SPEC).write_bytes(msgspec.json.encode({"train": train, "held_out": {name: held_out}}))
        self.versions[name] = version

    def _trajectory(self, version: Checkpoint, question: str) -> Trajectory:
        """An answer of the prompted teacher, which the version copies exactly."""
        ids = self.engine.expected_ids(version, 12)
        top = self.engine._top(version, len(ids), len(VOCABULARY))
        return Trajectory(
            teacher_ids=np.array(encode(f"be: {question}"), np.int32),
            student_ids=np.array(encode(question), np.int32),
            response_ids=np.array(ids, np.int32),
            top_ids_TK=top.top_ids_TK,
            top_logprobs_TK=top.top_logprobs_TK,
            stimulus=question,
        )

    async def grow_without_rows(self, name: str) -> None:
        """Take a version's rows away, as if it had been imported."""
        (job_folder(self.home, self.versions[name].job_id) / SPEC).unlink()

    @staticmethod
    def keep_probe(catalog: Catalog) -> None:
        probes.put(catalog, "admin", "repo", "hard", [[{"role": "user", "content": "who?"}]])

    async def bake(self, **merge: object) -> Bake:
        """The bake of the merge, as it is when its stage begins."""
        config = bake_config({"merge": {"others": ["yoda"], **merge}})
        into = self.versions["pirate"]
        inputs = await self.catalog(plan_merge, "admin", "repo", config, into)
        job = BakeJob(
            user="admin", repo="repo", name="both", config=config, inputs=BakeInputs({}, into.name, merge=inputs)
        )
        job = await self.catalog(lambda catalog: catalog.store.jobs.add(job))
        folder = job_folder(self.home, job.id)
        folder.mkdir(parents=True)

        async def warn(message: str) -> None:
            self.warnings.append(message)

        return Bake(job, folder, None, warn)

    async def run(self, bake: Bake) -> Result:
        return await self.merger.run(bake, self._write_untrained, self._train)

    async def report(self, bake: Bake) -> MergeReport:
        job = await self.catalog(lambda catalog: catalog.store.jobs.find_bake(bake.job.id))
        assert job is not None and job.merge is not None
        return job.merge

    async def _write_untrained(self, bake: Bake, start: Start) -> tuple[SavedCheckpoint, Loss]:
        start.link_rows()
        folder = bake.folder / ALGEBRA / "0"
        return self._written(folder, start, 0), Loss(eval_kl_before=0.5, agreement_before=0.6, drift_before=0.1)

    async def _train(self, bake: Bake, start: Start | None) -> Result:
        self.trained.append(start)
        assert start is not None
        start.link_rows()
        saved = self._written(checkpoint_folder(bake.folder, 7), start, 7)
        return Result([saved], 1, Loss(eval_kl_before=0.5, eval_kl=0.1))

    def _written(self, folder: Path, start: Start, step: int) -> SavedCheckpoint:
        folder.mkdir(parents=True, exist_ok=True)
        for file in start.adapter.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        write_json(folder / "parity.json", {})
        return SavedCheckpoint(step, content_hash(folder))

    async def close(self) -> None:
        self.catalog.close(Catalog.close)
