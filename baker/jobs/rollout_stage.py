"""Runs a rollout job: stimuli -> trajectories.

jobs/<number>/rows.jsonl                        one readable row per line, in the order of completion
jobs/<number>/trajectories/<i>-<k>.safetensors  the same for training
"""

import asyncio
from pathlib import Path

import msgspec

from baker.jobs.job_row import JobRow
from baker.ports import FindCheckpoint, Sampler
from baker.repos.rendering import IGNORED_TOOLS
from baker.storage.files import append_line, read_lines, repair_lines
from baker.storage.home import STIMULI, TRAJECTORIES, job_folder, output_file
from baker.storage.job import RolloutJob
from baker.trajectories.files import save_trajectory
from baker.trajectories.rollout import RolloutItem, RolloutSettings, rollout, trajectory_name
from baker.types import Stimulus


class RolloutStage:
    def __init__(self, home: Path, sampler: Sampler, find_checkpoint: FindCheckpoint, top_logprobs: int) -> None:
        self._home, self._sampler = home, sampler
        self._find_checkpoint, self._top_logprobs = find_checkpoint, top_logprobs

    async def run(self, job: RolloutJob, folder: Path, row: JobRow) -> None:
        """Make the trajectories that are not on disk yet. Raises: RolloutError; EngineError, after which it may run
        again."""
        inputs = job.inputs
        stimuli_file = job_folder(self._home, inputs.stim_job) / STIMULI
        stimuli = [msgspec.convert(line, Stimulus) for line in read_lines(stimuli_file)]
        file = output_file(self._home, job)
        trajectories = folder / TRAJECTORIES
        trajectories.mkdir(exist_ok=True)
        repair_lines(file)
        done = frozenset((line["stimulus_id"], line["trajectory_id"]) for line in read_lines(file))
        count, total = len(done), len(stimuli) * job.config.num_traj_per_stimulus
        one_at_a_time = asyncio.Lock()

        async def keep(item: RolloutItem) -> None:
            nonlocal count
            name = trajectory_name(item.row)
            await asyncio.to_thread(save_trajectory, trajectories / name, item.trajectory)
            async with one_at_a_time:  # lines of several workers must not interleave
                await asyncio.to_thread(append_line, file, item.row)
                count += 1
                await row.set_progress(count, total)

        settings = await self._settings(job)
        await row.set_progress(count, total, total_expected=total)
        if (inputs.teacher.tools or inputs.student.tools) and not self._sampler.renders_tools:
            await row.warn(IGNORED_TOOLS)
        await rollout(stimuli, settings, self._sampler, keep, done)

    async def _settings(self, job: RolloutJob) -> RolloutSettings:
        config, inputs = job.config, job.inputs
        return RolloutSettings(
            teacher=inputs.teacher,
            student=inputs.student,
            model=inputs.model,
            checkpoint=await self._find_checkpoint(inputs.checkpoint),
            trajectories_per_stimulus=config.num_traj_per_stimulus,
            temperature=config.temperature,
            max_tokens=inputs.max_tokens,
            max_concurrency=config.max_concurrency,
            top_logprobs=self._top_logprobs,
            extra_kwargs=config.extra_kwargs,
        )
