"""A bake's checkpoints as they come: proved, published, pruned and let go of.

Order of effects, for each: it is on disk, the engine serves it as it was trained, its row is kept, its name is given
out.
"""

import asyncio
import shutil
import time
from pathlib import Path

import msgspec

from baker.adapters.files import content_hash
from baker.config.bake import BakeConfig
from baker.errors import AdapterError, EngineError, TrainingError
from baker.ports import Publisher, Warn
from baker.repos.catalog import Catalog
from baker.status import Loss
from baker.storage.home import CHECKPOINTS, ROUNDS, STATE
from baker.storage.job import BakeJob
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint, SavedCheckpoint
from baker.versions import checkpoints


class Result(msgspec.Struct, frozen=True):
    """result.json: the outcome of a bake's training. Once it is on disk, the training is not repeated."""

    checkpoints: list[SavedCheckpoint]
    """Checkpoints to publish, by step: those not served yet, and last the bake's result."""
    created: int
    loss: Loss


class _NotServed:
    """The publisher of adapters that are not the engine's: they are only kept."""

    async def prove(self, checkpoint: Checkpoint) -> None:
        return

    def register(self, checkpoint: Checkpoint) -> None:
        return

    def publish(self, checkpoint: Checkpoint) -> None:
        return

    async def retire(self, checkpoint: Checkpoint) -> None:
        return


class Bake:
    """What the stage works on: a job of it."""

    def __init__(self, job: BakeJob, config: BakeConfig, folder: Path, parent: Checkpoint | None, warn: Warn) -> None:
        self.job, self.config, self.folder, self.parent, self.warn = job, config, folder, parent, warn
        self.neutral: list[Path] = []

    @property
    def checkpoints_folder(self) -> Path:
        """Holds a folder for each checkpoint, named by its step."""
        return self.folder / CHECKPOINTS


def student_of(job: BakeJob) -> str | None:
    """The model that learns, if it is not the served one."""
    return job.inputs.student


class CheckpointService:
    """Brings what a training writes into service, and out of it."""

    def __init__(self, catalog: OneThread[Catalog], publisher: Publisher) -> None:
        self._catalog, self._publisher = catalog, publisher
        self._retiring: set[asyncio.Task[None]] = set()

    async def serve(self, bake: Bake, saved: SavedCheckpoint) -> bool:
        """Prove a checkpoint on the way and give out its name. Returns: False if the engine is away: later, then."""
        served = await self._catalog(checkpoints.of_job, bake.job)
        if any(checkpoints.trained_steps(known) >= saved.step for known in served):
            return True  # known from before an interruption, or pruned since
        (checkpoint,) = await self._checkpoints(bake, [saved], int(time.time()))
        try:
            complaint = await self._complaint(bake.job, checkpoint)
        except EngineError:
            return False
        if complaint is not None:
            await bake.warn(f"{complaint}; it is left out")
            return True
        await self._keep(bake, checkpoint)
        return True

    async def student(self, bake: Bake, step: int) -> Checkpoint:
        """The checkpoint of that step, served: proved now if it was not before.

        Raises: TrainingError if the engine does not serve it as it was trained; EngineError.
        """
        for known in await self._catalog(checkpoints.of_job, bake.job):
            if checkpoints.trained_steps(known) == step:
                return known
        sha256 = await asyncio.to_thread(content_hash, bake.checkpoints_folder / str(step))
        (checkpoint,) = await self._checkpoints(bake, [SavedCheckpoint(step, sha256)], int(time.time()))
        if (complaint := await self._complaint(bake.job, checkpoint)) is not None:
            raise TrainingError(complaint)
        await self._keep(bake, checkpoint)
        return checkpoint

    async def _keep(self, bake: Bake, checkpoint: Checkpoint) -> None:
        """Give out one on the way, which was proved."""
        # What the result must show, it has not shown.
        moving = [checkpoint] if checkpoint.is_served and not bake.config.publish_if.is_set else []
        moved = await self._catalog(checkpoints.keep, bake.job, [checkpoint], moving)
        self._give_out([checkpoint], moved)
        await self._prune(bake.job, bake.config)

    async def finish(self, bake: Bake, result: Result) -> None:
        """Prove what is not served yet, the last one first: where it fails the bake, no other's name is given out.

        A result that does not show what `publish_if` asks for is given out under its own name alone.

        Raises: TrainingError if the engine does not serve the last one as it was trained.
        """
        job, config = bake.job, bake.config
        *earlier, last = await self._checkpoints(bake, result.checkpoints, result.created)
        if (complaint := await self._complaint(job, last)) is not None:
            await self.discard(job, bake.folder)
            raise TrainingError(complaint)
        proved = []
        for checkpoint in earlier:
            if (complaint := await self._complaint(job, checkpoint)) is None:
                proved.append(checkpoint)
            else:
                await bake.warn(f"{complaint}; it is left out")
        proved.append(last)
        held_back = config.publish_if.complaint(result.loss)
        moving = [] if held_back is not None else [last] if config.publish_if.is_set else proved
        # The name is moved last, in the rows first: after a crash in between, the next start serves them.
        moved = await self._catalog(
            checkpoints.keep,
            job,
            proved,
            moving,
            loss=result.loss,
            progress_percent=100.0,
            held_back=held_back,
        )
        self._give_out(proved, moved)
        if held_back is None:
            self._retire_soon(await self._catalog(checkpoints.remove_of_other_jobs, job, last))
        else:
            await bake.warn(f"'{job.repo}/{job.name}' does not mean checkpoint {last.step}: {held_back}")
        await self._prune(job, config)

    def _give_out(self, checkpoints: list[Checkpoint], moved: list[Checkpoint]) -> None:
        """Args: moved: those that the bake's name moved to; the last one is what it means in the end."""
        for checkpoint in checkpoints:
            if checkpoint in moved:
                self._publisher_of(checkpoint).publish(checkpoint)
            else:
                self._publisher_of(checkpoint).register(checkpoint)

    async def _complaint(self, job: BakeJob, checkpoint: Checkpoint) -> str | None:
        """Why the checkpoint can't be served; None if it can. Raises: EngineError."""
        # What an earlier run of the bake left under this very name gives way.
        await self._retire(await self._catalog(checkpoints.remove_namesakes, job, checkpoint))
        try:
            await self._publisher_of(checkpoint).prove(checkpoint)
        except AdapterError as error:
            return f"checkpoint {checkpoint.step} was made, but it is not served as it was trained: {error}"
        return None

    async def _prune(self, job: BakeJob, config: BakeConfig) -> None:
        if config.save_total_limit is not None:
            self._retire_soon(await self._catalog(checkpoints.prune, job, config.save_total_limit))

    async def discard(self, job: BakeJob, folder: Path) -> None:
        """Let go of all that the training wrote so far."""
        await self._retire(await self._catalog(checkpoints.remove_of_job, job))
        for name in (STATE, ROUNDS, CHECKPOINTS):
            await asyncio.to_thread(shutil.rmtree, folder / name, ignore_errors=True)

    def _retire_soon(self, checkpoints: list[Checkpoint]) -> None:
        """Nothing new begins on them from here on; what runs on them may take its time."""
        if checkpoints:
            task = asyncio.create_task(self._retire(checkpoints))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _retire(self, checkpoints: list[Checkpoint]) -> None:
        """Their rows are gone; when nothing runs on them any more, their files go too."""
        for checkpoint in checkpoints:
            await self._publisher_of(checkpoint).retire(checkpoint)
            await asyncio.to_thread(shutil.rmtree, checkpoint.path, ignore_errors=True)

    async def _checkpoints(self, bake: Bake, saved: list[SavedCheckpoint], created: int) -> list[Checkpoint]:
        job = bake.job
        folders = [bake.checkpoints_folder / str(each.step) for each in saved]
        numbers = await self._catalog(checkpoints.numbers, job, folders)
        return [
            Checkpoint(
                user=job.user,
                repo=job.repo,
                bake=job.name,
                step=number,
                path=folder,
                sha256=each.sha256,
                created=created,
                job_id=job.id,
                is_served=student_of(job) is None,
            )
            for number, folder, each in zip(numbers, folders, saved, strict=True)
        ]

    def _publisher_of(self, checkpoint: Checkpoint) -> Publisher:
        return self._publisher if checkpoint.is_served else _NotServed()
