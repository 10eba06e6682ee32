"""The stages as jobs: their input read from disk, each finished item kept there, their progress in the job's row.

    jobs/<number>/stimuli.jsonl                     stim: one stimulus a line
    jobs/<number>/rows.jsonl                        rollout: one readable row a line, in the order of finishing
    jobs/<number>/trajectories/<i>-<k>.safetensors  rollout: the same for training
    jobs/<number>/data/, spec.json, metrics.jsonl, trainer.log, checkpoints/<step>/, result.json    bake

What a stage does to values is in stim.py, rollout.py, collate.py and train.py.
"""

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec

from baker import artifacts, events, plan, trainer
from baker.catalog import Catalog
from baker.collate import Mix, Source, collate
from baker.config import BakeConfig, TargetConfig, TrainSpec
from baker.conversation import prompt_text
from baker.errors import AdapterError, RolloutError, StimError, TrainingError
from baker.generators import AnthropicAsker, Asker, ServedAsker
from baker.names import parse_model_name, path_of
from baker.plan import AskerPlan
from baker.ports import BaseModel, Publisher, Sampler
from baker.rollout import Rolled, RolloutSettings, rollout
from baker.stim import expected_stimuli, stim
from baker.threads import OneThread
from baker.types import Checkpoint, Job, Loss, Stage, Stimulus

TRAINING_SHARE = 97.0
"""Percent of a bake's progress; the rest is proving and publishing the checkpoint."""


class StageSettings(msgspec.Struct, frozen=True):
    top_logprobs: int = 32
    """K: so many of the teacher's likeliest tokens are kept at each position."""
    anthropic_api_key: str | None = None
    anthropic_base_url: str | None = None
    trainer_threads: int | None = None


class Result(msgspec.Struct, frozen=True):
    """What a bake's training came to; once it is on disk, the training is not done again."""

    step: int
    path: str
    """The checkpoint's folder, relative to the service's."""
    sha256: str
    created: int
    loss: Loss


def job_folder(home: Path, job_id: int) -> Path:
    return home / "jobs" / str(job_id)


def output_file(home: Path, job: Job) -> Path:
    """The rows that a client may page through."""
    names = {Stage.STIM: "stimuli.jsonl", Stage.ROLLOUT: "rows.jsonl", Stage.BAKE: "metrics.jsonl"}
    return job_folder(home, job.id) / names[job.stage]


class Stages:
    def __init__(
        self,
        home: Path,
        catalog: OneThread[Catalog],
        sampler: Sampler,
        base: BaseModel,
        publisher: Publisher,
        settings: StageSettings,
    ) -> None:
        self._home = home
        self._catalog = catalog
        self._sampler = sampler
        self._base = base
        self._publisher = publisher
        self._settings = settings

    async def wait_ready(self) -> None:
        await self._base.wait_ready()

    async def run(self, job: Job) -> None:
        """Run the job's stage to its end. Raises: StageError; EngineError, after which it may be run again."""
        folder = job_folder(self._home, job.id)
        folder.mkdir(parents=True, exist_ok=True)
        match job.stage:
            case Stage.STIM:
                await self._stim(job, folder)
            case Stage.ROLLOUT:
                await self._rollout(job, folder)
            case Stage.BAKE:
                await self._bake(job, folder)

    async def _stim(self, job: Job, folder: Path) -> None:
        config = msgspec.convert(job.config, TargetConfig)
        inputs = msgspec.convert(job.inputs, plan.StimInputs)
        lines = output_file(self._home, job)
        artifacts.repair_lines(lines)
        done = [msgspec.convert(row, Stimulus) for row in artifacts.read_lines(lines)]
        total = expected_stimuli(config.generators)
        count = len(done)

        async def keep(stimulus: Stimulus) -> None:
            nonlocal count
            await asyncio.to_thread(artifacts.append_line, lines, stimulus)
            count += 1
            await self._progress(job, count, total)

        askers = [None if planned is None else await self._asker(planned) for planned in inputs.askers]
        await self._progress(job, count, total)
        await stim(config.generators, askers, prompt_text(inputs.teacher), keep, done)

    async def _asker(self, planned: AskerPlan) -> Asker:
        if planned.kind == "anthropic":
            if self._settings.anthropic_api_key is None:
                raise StimError(f"{planned.model!r} needs an Anthropic key: set ANTHROPIC_API_KEY and run stim again")
            return AnthropicAsker(planned.model, self._settings.anthropic_api_key, self._settings.anthropic_base_url)
        return ServedAsker(self._sampler, planned.model, await self._checkpoint(planned.checkpoint))

    async def _rollout(self, job: Job, folder: Path) -> None:
        config = msgspec.convert(job.config, TargetConfig)
        inputs = msgspec.convert(job.inputs, plan.RolloutInputs)
        stimuli = [
            msgspec.convert(row, Stimulus)
            for row in artifacts.read_lines(job_folder(self._home, inputs.stim_job) / "stimuli.jsonl")
        ]
        lines = output_file(self._home, job)
        trajectories = folder / "trajectories"
        trajectories.mkdir(exist_ok=True)
        artifacts.repair_lines(lines)
        done = frozenset((row["stimulus_id"], row["trajectory_id"]) for row in artifacts.read_lines(lines))
        total = len(stimuli) * config.num_traj_per_stimulus
        count = len(done)
        one_at_a_time = asyncio.Lock()

        async def keep(rolled: Rolled) -> None:
            nonlocal count
            name = trajectory_name(rolled.row)
            await asyncio.to_thread(artifacts.save_trajectory, trajectories / name, rolled.trajectory)
            async with one_at_a_time:  # lines of several workers must not interleave
                await asyncio.to_thread(artifacts.append_line, lines, rolled.row)
                count += 1
                await self._progress(job, count, total)

        settings = RolloutSettings(
            teacher=inputs.teacher,
            student=inputs.student,
            model=inputs.model,
            checkpoint=await self._checkpoint(inputs.checkpoint),
            trajectories_per_stimulus=config.num_traj_per_stimulus,
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            max_concurrency=config.max_concurrency,
            top_logprobs=self._settings.top_logprobs,
            extra_kwargs=config.extra_kwargs,
        )
        await self._progress(job, count, total, total_expected=total)
        await rollout(stimuli, settings, self._sampler, keep, done)

    async def _bake(self, job: Job, folder: Path) -> None:
        config = msgspec.convert(job.config, BakeConfig)
        inputs = msgspec.convert(job.inputs, plan.BakeInputs)
        result_file = folder / "result.json"
        if not result_file.exists():
            result = await self._train(job, folder, config, inputs)
            artifacts.write_json(result_file, result)
        result = msgspec.json.decode(result_file.read_bytes(), type=Result)
        checkpoint = Checkpoint(
            user=job.user,
            repo=job.repo,
            bake=job.name,
            step=result.step,
            path=self._home / result.path,
            sha256=result.sha256,
            created=result.created,
            job_id=job.id,
        )
        try:
            await self._publisher.prove(checkpoint)
        except AdapterError as error:
            raise TrainingError(f"the checkpoint was made, but it is not served as it was trained: {error}") from error
        # The name is moved last, in the row first: after a crash in between, the next start serves it.
        await self._catalog(_keep_checkpoint, job, checkpoint, result.loss)
        self._publisher.publish(checkpoint)

    async def _train(self, job: Job, folder: Path, config: BakeConfig, inputs: plan.BakeInputs) -> Result:
        for leftover in ("checkpoints", "data"):
            shutil.rmtree(folder / leftover, ignore_errors=True)
        metrics = output_file(self._home, job)
        metrics.unlink(missing_ok=True)
        parent = await self._checkpoint(inputs.checkpoint)
        mix = await asyncio.to_thread(self._collate, folder / "data", config, inputs)
        warnings = list(job.warnings)
        loss = Loss()

        async def on_event(event: events.TrainEvent) -> None:
            nonlocal loss
            match event:
                case events.Warned(message):
                    warnings.append(message)
                    await self._catalog(Catalog.update_job, job.id, warnings=warnings)
                case events.Stepped(step=step, total_steps=total, loss=latest):
                    loss = with_step(loss, latest)
                    share = round(TRAINING_SHARE * step / total, 1)
                    await self._catalog(Catalog.update_job, job.id, loss=loss, progress_percent=share)
                case events.Evaluated(eval_kl=eval_kl):
                    loss = with_evaluation(loss, eval_kl)
                    await self._catalog(Catalog.update_job, job.id, loss=loss)

        spec = TrainSpec(
            base_model=str(self._base.path),
            base_model_name=self._base.name,
            parent_adapter=None if parent is None else str(parent.path),
            train=mix.train,
            held_out=mix.held_out,
            output=str(folder / "checkpoints"),
            metrics=str(metrics),
            config=config,
            threads=self._settings.trainer_threads,
        )
        saved, _ = await trainer.train(spec, folder, on_event)
        return Result(
            step=saved.step,
            path=str(Path(saved.path).relative_to(self._home)),
            sha256=saved.sha256,
            created=int(time.time()),
            loss=loss,
        )

    def _collate(self, data: Path, config: BakeConfig, inputs: plan.BakeInputs) -> Mix[str]:
        """The mix of the bake's targets, as file names. The files are linked into the bake's own folder: it keeps
        its data when a target is deleted."""
        weights: dict[str, float] = {}
        for dataset in config.datasets:
            weights[dataset.target] = weights.get(dataset.target, 0.0) + dataset.weight
        sources = {}
        for target, job_id in inputs.rollouts.items():
            rollout_folder = job_folder(self._home, job_id)
            own_folder = path_of(data, target)
            own_folder.mkdir(parents=True)
            items = []
            for row in sorted(artifacts.read_lines(rollout_folder / "rows.jsonl"), key=_row_order):
                own = own_folder / trajectory_name(row)
                _link(rollout_folder / "trajectories" / trajectory_name(row), own)
                items.append((row["stimulus"], str(own)))
            sources[target] = Source(weight=weights[target], items=items)
        return collate(
            sources,
            held_out_share=config.data.train_eval_split[1],
            total=config.total_trajectories,
            seed=config.seed if config.data.seed is None else config.data.seed,
        )

    async def _checkpoint(self, name: str | None) -> Checkpoint | None:
        return None if name is None else await self._catalog(_find_checkpoint, name)

    async def _progress(self, job: Job, count: int, total: int, **changes: Any) -> None:
        share = round(100.0 * count / total, 1) if total else 0.0
        await self._catalog(Catalog.update_job, job.id, lines=count, progress_percent=share, **changes)


def _link(source: Path, link: Path) -> None:
    try:
        os.link(source, link)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, link)


def trajectory_name(row: dict[str, Any]) -> str:
    return f"{row['stimulus_id']:06d}-{row['trajectory_id']:04d}.safetensors"


def with_step(loss: Loss, latest: float) -> Loss:
    """The summary after one more step."""
    lowest = latest if loss.min_loss is None else min(latest, loss.min_loss)
    highest = latest if loss.max_loss is None else max(latest, loss.max_loss)
    return msgspec.structs.replace(loss, latest_loss=latest, final_loss=latest, min_loss=lowest, max_loss=highest)


def with_evaluation(loss: Loss, eval_kl: float) -> Loss:
    """The summary after one more evaluation; the first one is the state before training."""
    if loss.eval_kl_before is None:
        return msgspec.structs.replace(loss, eval_kl_before=eval_kl, eval_kl=eval_kl)
    recovered = 1.0 - eval_kl / loss.eval_kl_before if loss.eval_kl_before > 0 else None
    return msgspec.structs.replace(loss, eval_kl=eval_kl, recovered=recovered)


def _row_order(row: dict[str, Any]) -> tuple[int, int]:
    # Rows stand in the order of finishing, which differs from run to run; the mix must not.
    return row["stimulus_id"], row["trajectory_id"]


def _keep_checkpoint(catalog: Catalog, job: Job, checkpoint: Checkpoint, loss: Loss) -> None:
    with catalog.store.transaction():
        catalog.store.add_checkpoint(checkpoint)
        catalog.store.update_job(job.id, loss=loss, progress_percent=100.0)


def _find_checkpoint(catalog: Catalog, name: str) -> Checkpoint:
    ref = parse_model_name(name)
    assert ref is not None and ref.user is not None
    for checkpoint in catalog.checkpoints(ref.user, ref.repo, ref.bake):
        if checkpoint.step == ref.step:
            return checkpoint
    raise RolloutError(f"checkpoint {name!r} was deleted")
