"""Hands a job to its stage, with its folder and its row.

What is in `jobs/<number>/` is listed in `stim_stage.py`, `rollout_stage.py` and `bake_stage.py`. What a stage does to
values is in `questions/stim.py`, `trajectories/rollout.py`, `trajectories/collate.py` and `training/run/train.py`.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from baker.errors import StageError
from baker.jobs.bake_stage import BakeSettings, BakeStage
from baker.jobs.job_row import JobRow
from baker.jobs.rollout_stage import RolloutStage
from baker.jobs.stim_stage import StimStage
from baker.ports import Sampler, ServedModel
from baker.repos import models
from baker.repos.catalog import Catalog
from baker.status import Pace, Progress
from baker.storage.home import job_folder
from baker.storage.job import AnyJob, BakeJob, RolloutJob, StimJob
from baker.storage.one_thread import OneThread
from baker.trajectories.neutral import NeutralAnswers
from baker.types import Checkpoint
from baker.versions.publishing import Publisher


class StageSettings(msgspec.Struct, frozen=True):
    top_logprobs: int = 32
    """K: number of the teacher's likeliest tokens that are stored at each position."""
    anthropic_api_key: str | None = None
    anthropic_base_url: str | None = None
    trainer_threads: int | None = None
    """CPU threads of a training; None: torch decides."""
    trainer_devices: int | None = None
    """Processes of a training, a GPU each; None: see `launcher.devices_for`."""
    allows_wandb: bool = False
    """Whether clients may have a bake's metrics sent to Weights & Biases, under the operator's account."""


class Stages:
    def __init__(
        self,
        home: Path,
        catalog: OneThread[Catalog],
        sampler: Sampler,
        base: ServedModel,
        publisher: Publisher,
        settings: StageSettings,
    ) -> None:
        self._home, self._catalog, self._base = home, catalog, base
        self._stim = StimStage(
            home, sampler, self._find_checkpoint, settings.anthropic_api_key, settings.anthropic_base_url
        )
        self._rollout = RolloutStage(home, sampler, self._find_checkpoint, settings.top_logprobs)
        bake_settings = BakeSettings(
            settings.trainer_threads, settings.trainer_devices, settings.allows_wandb, settings.top_logprobs
        )
        self.neutral = NeutralAnswers(home, sampler, base, settings.top_logprobs)
        self._bakes = BakeStage(home, catalog, sampler, base, publisher, self.neutral, bake_settings)
        self.merger = self._bakes.merger
        self.training: Mapping[int, Progress] = self._bakes.training
        """Job number of each bake in training -> its latest step."""
        self._paces: dict[int, Pace] = {}

    async def wait_ready(self, job: AnyJob) -> None:
        """Return when the engine answers, or at once if the job asks no model."""
        if job.asks_model:
            await self._base.wait_ready()

    async def run(self, job: AnyJob) -> None:
        """Run the job's stage to its end. Raises: StageError; EngineError, after which it may run again."""
        folder = job_folder(self._home, job.id)
        folder.mkdir(parents=True, exist_ok=True)
        row = JobRow(self._catalog, job.id, self._paces)
        try:
            match job:
                case StimJob():
                    await self._stim.run(job, row)
                case RolloutJob():
                    await self._rollout.run(job, folder, row)
                case BakeJob():
                    await self._bakes.run(job, folder, await self._find_checkpoint(job.inputs.teacher), row)
        finally:
            self._paces.pop(job.id, None)

    def pace(self, job_id: int) -> Pace | None:
        """The pace of a running stim or rollout; None for all other jobs."""
        return self._paces.get(job_id)

    async def _find_checkpoint(self, name: str | None) -> Checkpoint | None:
        if name is None:
            return None
        checkpoint = await self._catalog(models.checkpoint_named, name)
        if checkpoint is None:
            raise StageError(f"checkpoint {name!r} was deleted")
        return checkpoint
