"""Publishes a bake's checkpoints while it trains and at its end, and removes old ones.

Order of effects for each checkpoint: it is on disk, the engine serves it as it was trained, its row is stored, its name
is served.
"""

import asyncio
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from baker.adapters.files import content_hash
from baker.config.bake import BakeConfig
from baker.errors import AdapterError, EngineError, TrainingError
from baker.history.revisions import RepoView
from baker.ports import Warn
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.status import Loss
from baker.storage.home import CHECKPOINTS, ROUNDS, STATE, checkpoint_folder
from baker.storage.job import BakeJob
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint, SavedCheckpoint
from baker.versions import checkpoints
from baker.versions.checkpoints import Kept

Keep = Callable[[Catalog, BakeJob, list[Checkpoint], list[Checkpoint]], Kept]
"""`checkpoints.keep` with its other arguments."""
Remove = Callable[[Catalog, BakeJob], list[Checkpoint]]
"""Removes rows of checkpoints. Returns: those."""


class Result(msgspec.Struct, frozen=True):
    """result.json: the outcome of a bake's training. Once it is on disk, the training is not repeated."""

    checkpoints: list[SavedCheckpoint]
    """Checkpoints to publish, by step: those not served yet, and last the bake's result."""
    created: int
    loss: Loss
    held_back: str | None = None
    """Why a merge may not move a name."""


class Publisher(Protocol):
    async def prove(self, checkpoint: Checkpoint) -> None:
        """Load the checkpoint and check that the engine serves it as it was trained.

        Raises: AdapterError if it does not; EngineError.
        """
        ...

    def register(self, checkpoint: Checkpoint) -> None:
        """Serve the checkpoint under its own name; the bake's name keeps its meaning."""
        ...

    def publish(self, checkpoint: Checkpoint) -> None:
        """Serve the checkpoint under its own name and the bake's. Requests in flight finish on the older checkpoint."""
        ...

    async def retire(self, checkpoint: Checkpoint) -> None:
        """Stop serving the checkpoint; return when no request uses it, so that its files can be deleted."""
        ...

    def show(self, view: RepoView) -> None:
        """Serve a repo's branches, tags and revisions as this view has them."""
        ...


class _NotServed:
    """Publisher of adapters for another model than the served one: they are only stored."""

    async def prove(self, checkpoint: Checkpoint) -> None:
        return

    def register(self, checkpoint: Checkpoint) -> None:
        return

    def publish(self, checkpoint: Checkpoint) -> None:
        return

    async def retire(self, checkpoint: Checkpoint) -> None:
        return

    def show(self, view: RepoView) -> None:
        return


class Bake:
    """A running bake."""

    def __init__(self, job: BakeJob, folder: Path, parent: Checkpoint | None, warn: Warn) -> None:
        """Args: folder: the job's."""
        self.job, self.folder, self.parent, self.warn = job, folder, parent, warn
        self.neutral: list[Path] = []
        """Files of the base model's answers to neutral questions."""

    @property
    def config(self) -> BakeConfig:
        return self.job.config


class CheckpointService:
    """Serves the checkpoints that trainings write, and stops serving them."""

    def __init__(self, catalog: OneThread[Catalog], publisher: Publisher) -> None:
        self._catalog, self._publisher = catalog, publisher
        self._retiring: set[asyncio.Task[None]] = set()

    async def serve(self, bake: Bake, saved: SavedCheckpoint) -> bool:
        """Prove and publish an intermediate checkpoint. Returns: False if the engine is away; `finish` then does it."""
        served = await self._catalog(checkpoints.of_job, bake.job)
        if any(checkpoints.trained_steps(known) >= saved.step for known in served):
            return True  # published before an interruption, and perhaps pruned since
        (checkpoint,) = await self._checkpoints(bake, [saved], int(time.time()))
        try:
            complaint = await self._complaint(bake.job, checkpoint)
        except EngineError:
            return False
        if complaint is not None:
            await bake.warn(f"{complaint}; it is not published")
            return True
        await self._keep(bake, checkpoint)
        return True

    async def student(self, bake: Bake, step: int) -> Checkpoint:
        """The checkpoint of that step; proved and published first if it is not served yet.

        Raises: TrainingError if the engine does not serve it as it was trained; EngineError.
        """
        for known in await self._catalog(checkpoints.of_job, bake.job):
            if checkpoints.trained_steps(known) == step:
                return known
        sha256 = await asyncio.to_thread(content_hash, checkpoint_folder(bake.folder, step))
        (checkpoint,) = await self._checkpoints(bake, [SavedCheckpoint(step, sha256)], int(time.time()))
        if (complaint := await self._complaint(bake.job, checkpoint)) is not None:
            raise TrainingError(complaint)
        await self._keep(bake, checkpoint)
        return checkpoint

    async def _keep(self, bake: Bake, checkpoint: Checkpoint) -> None:
        """Publish an intermediate checkpoint that was proved."""
        # With `publish_if`, and for a merge, the bake's name only moves to the result.
        moving = [checkpoint] if checkpoint.is_served and not bake.config.moves_at_end else []
        job = await self._catalog(lambda catalog: catalog.store.jobs.find_bake(bake.job.id))
        loss = None if job is None else job.loss
        await self._store(partial(checkpoints.keep, loss=loss), bake.job, [checkpoint], moving)
        await self._prune(bake.job, bake.config)

    async def finish(self, bake: Bake, result: Result) -> None:
        """Prove and publish the checkpoints that are not served yet. The last one is proved first: if it fails, so does
        the bake, and no checkpoint is published.

        A result that does not meet `publish_if` is published under its own name only.

        Raises: TrainingError if the engine does not serve the last one as it was trained; EngineError.
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
                await bake.warn(f"{complaint}; it is not published")
        proved.append(last)
        held_back = config.publish_if.complaint(result.loss) or result.held_back
        moving = [] if held_back is not None else [last] if config.moves_at_end else proved
        # The rows change before the served names: after a crash in between, the next start serves what they say.
        changes = {"progress_percent": 100.0, "held_back": held_back}
        keep = partial(checkpoints.keep, loss=result.loss, is_result=True, **changes)
        kept = await self._store(keep, job, proved, moving)
        if kept.warning is not None:
            await bake.warn(kept.warning)
        if held_back is None:
            await self._remove(partial(checkpoints.remove_of_other_jobs, result=last), job)
        else:
            await bake.warn(f"'{job.repo}/{job.name}' does not mean checkpoint {last.step}: {held_back}")
        await self._prune(job, config)

    async def _store(self, keep: Keep, job: BakeJob, proved: list[Checkpoint], moving: list[Checkpoint]) -> Kept:
        """Keep the checkpoints' rows and serve them. A cancelled bake does both or neither, so that the names in memory
        mean what the rows say."""

        async def store() -> Kept:
            kept = await self._catalog(keep, job, proved, moving)
            self._publish(kept)
            return kept

        return await asyncio.shield(store())

    def _publish(self, kept: Kept) -> None:
        for checkpoint in kept.checkpoints:
            if checkpoint in kept.moved:
                self._publisher_of(checkpoint).publish(checkpoint)
            else:
                self._publisher_of(checkpoint).register(checkpoint)
        self._publisher.show(kept.view)

    async def _complaint(self, job: BakeJob, checkpoint: Checkpoint) -> str | None:
        """Why the checkpoint can't be served; None if it can. Raises: EngineError."""
        # A checkpoint of the same name that an earlier run of the bake left is replaced.
        await asyncio.shield(await self._remove(partial(checkpoints.remove_namesakes, checkpoint=checkpoint), job))
        try:
            await self._publisher_of(checkpoint).prove(checkpoint)
        except AdapterError as error:
            return f"checkpoint {checkpoint.step} was written, but it is not served as it was trained: {error}"
        return None

    async def _prune(self, job: BakeJob, config: BakeConfig) -> None:
        if config.save_total_limit is not None:
            await self._remove(partial(checkpoints.prune, limit=config.save_total_limit), job)

    async def discard(self, job: BakeJob, folder: Path) -> None:
        """Stop serving this run's checkpoints; remove them, its training states and its rounds.

        Nothing of the run is left, so its progress is 0 again.
        """
        await asyncio.shield(await self._remove(checkpoints.discard_run, job))
        for name in (STATE, ROUNDS, CHECKPOINTS):
            await asyncio.to_thread(shutil.rmtree, folder / name, ignore_errors=True)

    async def _remove(self, remove: Remove, job: BakeJob) -> asyncio.Task[None]:
        """Remove the rows of checkpoints, and stop serving them. A cancelled bake does both or neither.

        Returns: the task that removes their files. New requests can't use them, but running ones may take a while.
        """

        async def both() -> asyncio.Task[None]:
            gone = await self._catalog(remove, job)
            retiring = asyncio.create_task(self._retire(gone))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            if gone:
                self._publisher.show(await self._catalog(repo_view, job.user, job.repo))
            return retiring

        return await asyncio.shield(both())

    async def _retire(self, checkpoints: list[Checkpoint]) -> None:
        """Remove the files of checkpoints whose rows are gone, once no request uses them."""
        for checkpoint in checkpoints:
            await self._publisher_of(checkpoint).retire(checkpoint)
            await asyncio.to_thread(shutil.rmtree, checkpoint.path, ignore_errors=True)

    async def _checkpoints(self, bake: Bake, saved: list[SavedCheckpoint], created: int) -> list[Checkpoint]:
        job = bake.job
        folders = [checkpoint_folder(bake.folder, each.step) for each in saved]
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
                is_served=job.inputs.student is None,
                parent=job.inputs.checkpoint,
            )
            for number, folder, each in zip(numbers, folders, saved, strict=True)
        ]

    def _publisher_of(self, checkpoint: Checkpoint) -> Publisher:
        return self._publisher if checkpoint.is_served else _NotServed()
