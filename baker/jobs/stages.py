"""The stages as jobs: their input read from disk, each finished item kept there, their progress in the job's row.

    jobs/<number>/stimuli.jsonl                     stim: one stimulus a line
    jobs/<number>/rows.jsonl                        rollout: one readable row a line, in the order of finishing
    jobs/<number>/trajectories/<i>-<k>.safetensors  rollout: the same for training
    jobs/<number>/metrics.jsonl                     bake: one metrics row a line; the rest is in bake_stage.py

What a stage does to values is in stim.py, rollout.py, collate.py and train.py.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from baker.config.generator import Generator
from baker.conversation import prompt_text
from baker.errors import RolloutError, StimError
from baker.jobs.bake_stage import BakeSettings, BakeStage
from baker.model_names import parse_model_name
from baker.ports import Publisher, Sampler, ServedModel, Warn
from baker.questions.datasets import QuestionSets
from baker.questions.generators import QuestionSource
from baker.questions.stim import expected_stimuli, stim
from baker.questions.writers import AnthropicWriter, ServedWriter, Writer
from baker.repos.catalog import Catalog
from baker.status import Progress
from baker.storage.files import append_line, append_lines, read_lines, repair_lines
from baker.storage.home import job_folder, output_file
from baker.storage.job import AnyJob, BakeJob, Job, RolloutJob, StimJob
from baker.storage.job_inputs import GeneratorPlan, WriterPlan
from baker.storage.one_thread import OneThread
from baker.trajectories.files import save_trajectory
from baker.trajectories.neutral import NeutralAnswers
from baker.trajectories.rollout import RolloutItem, RolloutSettings, rollout, trajectory_name
from baker.types import Checkpoint, Stimulus


class StageSettings(msgspec.Struct, frozen=True):
    top_logprobs: int = 32
    """K: so many of the teacher's likeliest tokens are kept at each position."""
    anthropic_api_key: str | None = None
    anthropic_base_url: str | None = None
    trainer_threads: int | None = None
    trainer_devices: int | None = None
    """Processes of a training, a GPU each; None: see `bake_stage.devices_for`."""
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
        self._home = home
        self._catalog = catalog
        self._sampler = sampler
        self._base = base
        self._settings = settings
        bake_settings = BakeSettings(
            settings.trainer_threads, settings.trainer_devices, settings.allows_wandb, settings.top_logprobs
        )
        neutral = NeutralAnswers(home, sampler, base, settings.top_logprobs)
        self._bakes = BakeStage(home, catalog, sampler, base, publisher, neutral, bake_settings)
        self.training: Mapping[int, Progress] = self._bakes.training
        """Where each bake that trains stands, by its job's number."""

    async def wait_ready(self) -> None:
        await self._base.wait_ready()

    async def run(self, job: AnyJob) -> None:
        """Run the job's stage to its end. Raises: StageError; EngineError, after which it may be run again."""
        folder = job_folder(self._home, job.id)
        folder.mkdir(parents=True, exist_ok=True)
        match job:
            case StimJob():
                await self._stim(job, folder)
            case RolloutJob():
                await self._rollout(job, folder)
            case BakeJob():
                parent = await self._checkpoint(job.inputs.checkpoint)
                await self._bakes.run(job, folder, parent, self._warn(job))

    async def _stim(self, job: StimJob, folder: Path) -> None:
        config, inputs = job.config, job.inputs
        lines = output_file(self._home, job)
        repair_lines(lines)
        done = [msgspec.convert(row, Stimulus) for row in read_lines(lines)]
        total = expected_stimuli(config.generators)
        count = len(done)

        async def keep(stimuli: list[Stimulus]) -> None:
            nonlocal count
            await asyncio.to_thread(append_lines, lines, stimuli)
            count += len(stimuli)
            await self._progress(job, count, total)

        await self._progress(job, count, total)
        teacher_text = prompt_text(inputs.teacher)
        sources = [
            await self._source(generator, planned, teacher_text)
            for generator, planned in zip(config.generators, inputs.generators, strict=True)
        ]
        await stim(sources, keep, self._warn(job), done)

    async def _source(self, generator: Generator, planned: GeneratorPlan, teacher_text: str) -> QuestionSource:
        dataset = planned.dataset
        read = None if dataset is None else partial(QuestionSets(self._home).read, dataset, generator.column)
        return QuestionSource(
            generator=generator,
            prompt_text=teacher_text,
            writer=None if planned.writer is None else await self._writer(planned.writer),
            template=planned.template,
            written=planned.written,
            read_dataset=read,
        )

    async def _writer(self, planned: WriterPlan) -> Writer:
        if planned.kind == "anthropic":
            if self._settings.anthropic_api_key is None:
                raise StimError(f"{planned.model!r} needs an Anthropic key: set ANTHROPIC_API_KEY and run stim again")
            return AnthropicWriter(planned.model, self._settings.anthropic_api_key, self._settings.anthropic_base_url)
        return ServedWriter(self._sampler, planned.model, await self._checkpoint(planned.checkpoint))

    async def _rollout(self, job: RolloutJob, folder: Path) -> None:
        config, inputs = job.config, job.inputs
        stimuli = [
            msgspec.convert(row, Stimulus)
            for row in read_lines(job_folder(self._home, inputs.stim_job) / "stimuli.jsonl")
        ]
        lines = output_file(self._home, job)
        trajectories = folder / "trajectories"
        trajectories.mkdir(exist_ok=True)
        repair_lines(lines)
        done = frozenset((row["stimulus_id"], row["trajectory_id"]) for row in read_lines(lines))
        total = len(stimuli) * config.num_traj_per_stimulus
        count = len(done)
        one_at_a_time = asyncio.Lock()

        async def keep(rolled: RolloutItem) -> None:
            nonlocal count
            name = trajectory_name(rolled.row)
            await asyncio.to_thread(save_trajectory, trajectories / name, rolled.trajectory)
            async with one_at_a_time:  # lines of several workers must not interleave
                await asyncio.to_thread(append_line, lines, rolled.row)
                count += 1
                await self._progress(job, count, total)

        settings = RolloutSettings(
            teacher=inputs.teacher,
            student=inputs.student,
            model=inputs.model,
            checkpoint=await self._checkpoint(inputs.checkpoint),
            trajectories_per_stimulus=config.num_traj_per_stimulus,
            temperature=config.temperature,
            max_tokens=inputs.max_tokens,
            max_concurrency=config.max_concurrency,
            top_logprobs=self._settings.top_logprobs,
            extra_kwargs=config.extra_kwargs,
        )
        await self._progress(job, count, total, total_expected=total)
        if (inputs.teacher.tools or inputs.student.tools) and not self._sampler.renders_tools:
            await self._warn(job)(
                f"the chat template of {self._base.name!r} shows no tools: those of the prompts have no effect"
            )
        await rollout(stimuli, settings, self._sampler, keep, done)

    async def _checkpoint(self, name: str | None) -> Checkpoint | None:
        return None if name is None else await self._catalog(_find_checkpoint, name)

    def _warn(self, job: Job) -> Warn:
        """What adds a warning to the job; one that is there already, from before an interruption, is not repeated."""

        async def warn(message: str) -> None:
            await self._catalog(_add_warning, job.id, message)

        return warn

    async def _progress(self, job: Job, count: int, total: int, **changes: Any) -> None:
        share = round(100.0 * count / total, 1) if total else 0.0
        await self._catalog(Catalog.update_job, job.id, lines=count, progress_percent=share, **changes)


def _add_warning(catalog: Catalog, job_id: int, message: str) -> None:
    with catalog.store.transaction():
        job = catalog.store.jobs.find(job_id)
        if job is not None and message not in job.warnings:
            catalog.store.jobs.update(job_id, warnings=[*job.warnings, message])


def _find_checkpoint(catalog: Catalog, name: str) -> Checkpoint:
    ref = parse_model_name(name)
    assert ref is not None and ref.user is not None
    for checkpoint in catalog.checkpoints(ref.user, ref.repo, ref.bake):
        if checkpoint.step == ref.step:
            return checkpoint
    raise RolloutError(f"checkpoint {name!r} was deleted")
