"""Runs a bake's training to its end, through restarts, and hands its checkpoints to `versions/publishing.py`.

    jobs/<number>/spec.json, data/       input of the training process
    jobs/<number>/metrics.jsonl, metrics.png, trainer.log, wandb-id    its reports
    jobs/<number>/rounds/<round>/        the student's answers in on-policy rounds: see `trajectories/on_policy.py`
    jobs/<number>/state/<step>/          training states to resume from, removed after the training
    jobs/<number>/checkpoints/<step>/    adapters to serve
    jobs/<number>/result.json            the training's outcome; once it exists, the training is not repeated

The last checkpoint is the bake's result: the bake is complete only if the engine serves it as it was trained.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from baker.errors import InvalidInputError, NeedsRoomError, NotLentError, RolloutError, TrainerLostError, TrainingError
from baker.jobs.job_row import JobRow
from baker.jobs.training_listener import TrainingListener
from baker.merging.merger import Merger, Start, settings_from
from baker.ports import LentWeights, Sampler, ServedModel
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.repos.rendering import IGNORED_TOOLS
from baker.status import Loss, Progress
from baker.storage.files import write_bytes, write_json
from baker.storage.home import ALGEBRA, CHECKPOINTS, DATA, ENGINE_WEIGHTS, METRICS, RESULT, ROUNDS, STATE, WANDB_ID
from baker.storage.job import BakeJob
from baker.storage.models_folder import student_folder
from baker.storage.one_thread import OneThread
from baker.training import launcher
from baker.training import state as training_state
from baker.training.launcher import devices_for
from baker.training.spec import BEFORE_ROUNDS, Round, TrainSpec
from baker.trajectories.collate import Mix
from baker.trajectories.mix import linked_mix
from baker.trajectories.neutral import NeutralAnswers
from baker.trajectories.on_policy import AnswerSettings, RoundStore, answer_and_judge, draw_rows
from baker.types import Checkpoint, SavedCheckpoint
from baker.versions import checkpoints
from baker.versions.publishing import Bake, CheckpointService, Publisher, Result

log = logging.getLogger(__name__)

RETRIES = 3
"""Number of times that a killed training is resumed; counted from zero again when the service restarts."""
RETRY_SECONDS = 5.0
"""Whatever took the memory may have ended by then."""
MOVED = (METRICS, WANDB_ID, ROUNDS, STATE)
"""What a run of a bake inherits from the last one. The state is moved last: it shows that the others were moved."""


class BakeSettings(msgspec.Struct, frozen=True):
    """See `stages.StageSettings`."""

    threads: int | None
    devices: int | None
    allows_wandb: bool
    top_logprobs: int


class BakeStage:
    def __init__(
        self,
        home: Path,
        catalog: OneThread[Catalog],
        sampler: Sampler,
        base: ServedModel,
        publisher: Publisher,
        neutral: NeutralAnswers,
        settings: BakeSettings,
    ) -> None:
        self._home, self._catalog, self._base = home, catalog, base
        self.checkpoints = CheckpointService(catalog, publisher)
        self._sampler, self._neutral, self._settings = sampler, neutral, settings
        self.merger = Merger(home, catalog, sampler, base, publisher, neutral, settings.top_logprobs)
        self.training: dict[int, Progress] = {}
        """Job number of each bake in training -> its latest step."""

    async def run(self, job: BakeJob, folder: Path, parent: Checkpoint | None, row: JobRow) -> None:
        """Train, prove and publish. Raises: StageError; EngineError, after which it may run again, and continues."""
        bake = Bake(job, folder, parent, row.warn)
        if not self._sampler.renders_tools:
            for target, snapshot in job.inputs.targets.items():
                if snapshot.teacher.tools or snapshot.student.tools:
                    await row.warn(f"target {target!r}: {IGNORED_TOOLS}")
        result_file = folder / RESULT
        if not result_file.exists():
            try:
                result = await self._result(bake, row)
            except TrainingError:
                await self.checkpoints.discard(job, folder)
                raise
            finally:
                self.training.pop(job.id, None)
            write_json(result_file, result)
        await self.checkpoints.finish(bake, msgspec.json.decode(result_file.read_bytes(), type=Result))
        if not bake.config.keeps_state:
            await asyncio.to_thread(shutil.rmtree, folder / STATE, ignore_errors=True)

    async def _result(self, bake: Bake, row: JobRow) -> Result:
        if bake.job.inputs.merge is None:
            return await self._train(row, bake)
        return await self.merger.run(bake, partial(self._write_untrained, row), partial(self._train, row))

    async def _write_untrained(self, row: JobRow, bake: Bake, start: Start) -> tuple[SavedCheckpoint, Loss]:
        """See `merging.merger.WriteUntrained`."""
        await self._find_neutral(bake)
        spec = self._spec(bake, await self._mix(bake, start), start).untrained(bake.folder / ALGEBRA)
        listener = TrainingListener(row.note, row.warn, serve=None, show=lambda progress: None)
        saved = await self._run_process(bake, spec, listener)
        return saved, listener.loss

    async def _train(self, row: JobRow, bake: Bake, start: Start | None = None) -> Result:
        """Run the training process; if it is killed, start another from the last training state."""
        await self._find_neutral(bake)
        if bake.config.resumes:
            await self._inherit(bake)
        retries = 0
        while True:
            try:
                return await self._train_once(bake, row, start)
            except TrainerLostError as error:
                # Without a state, training starts over and would overwrite served checkpoints in place, but the engine
                # identifies an adapter by its path.
                has_state = any((bake.folder / STATE).glob("[0-9]*"))
                served = await self._catalog(checkpoints.of_job, bake.job)
                if retries == RETRIES or (served and not has_state):
                    raise
                retries += 1
                log.warning("job %d: %s; resuming it (%d of %d)", bake.job.id, error, retries, RETRIES)
                await asyncio.sleep(RETRY_SECONDS)

    async def _find_neutral(self, bake: Bake) -> None:
        try:
            # For another student, they would measure its distance from the served model.
            bake.neutral = await self._neutral.files() if bake.job.inputs.student is None else []
        except (InvalidInputError, RolloutError) as error:
            await bake.warn(f"the drift is not measured: the base model can't answer the neutral questions: {error}")

    async def _mix(self, bake: Bake, start: Start | None) -> Mix[str]:
        link: Callable[[], Mix[str]] = partial(
            linked_mix, self._home, bake.folder / DATA, bake.config, bake.job.inputs.rollouts
        )
        mix = await asyncio.to_thread(link if start is None else start.link_rows)
        await self._catalog(Catalog.update_job, bake.job.id, collation=mix.collation)
        return mix

    async def _train_once(self, bake: Bake, row: JobRow, start: Start | None) -> Result:
        job, folder = bake.job, bake.folder
        mix = await self._mix(bake, start)
        spec, rounds = self._spec(bake, mix, start), RoundStore(folder)
        state = await self._state_of(spec)
        if state is None:
            await self.checkpoints.discard(job, folder)
            (folder / WANDB_ID).unlink(missing_ok=True)
        devices = self._settings.devices or await asyncio.to_thread(devices_for, bake.config)
        listener = TrainingListener(
            note=row.note,
            warn=row.warn,
            serve=partial(self.checkpoints.serve, bake),
            show=partial(self.training.__setitem__, job.id),
            percent=0.0 if state is None else job.progress_percent,
        )
        while True:
            number = 0 if state is None else rounds.number_at(training_state.step_of(state))
            part = await self._round(bake, rounds, number, mix.train)
            resume = None if state is None else str(state)
            spec = msgspec.structs.replace(spec, resume=resume, round=part, devices=devices)
            last = await self._run_process(bake, spec, listener)
            if number == bake.config.data.on_policy.rounds:
                return Result([*listener.unserved, last], int(time.time()), listener.loss)
            await asyncio.to_thread(rounds.begin, number + 1, last.step, self.training.get(job.id))
            state = await self._state_of(spec)

    async def _state_of(self, spec: TrainSpec) -> Path | None:
        if spec.state is None:
            return None
        return await asyncio.to_thread(training_state.find, Path(spec.state), spec.fingerprint())

    async def _round(self, bake: Bake, rounds: RoundStore, number: int, mix: list[str]) -> Round:
        """The spec of that round. Missing answers are made first."""
        if number == 0:
            return BEFORE_ROUNDS
        record = await asyncio.to_thread(rounds.read, number)
        if record.train is None:
            config, seed = bake.config.data.on_policy, f"{bake.config.seed}/{number}"
            own, old = config.rows(len(mix))
            asked, taught = draw_rows(mix, own, f"{seed}/asked"), draw_rows(mix, old, f"{seed}/taught")
            student = await self.checkpoints.student(bake, record.first_step)
            settings = AnswerSettings(config, student, bake.parent, self._settings.top_logprobs, seed)

            async def note(count: int) -> None:
                if record.before is not None:
                    self.training[bake.job.id] = msgspec.structs.replace(record.before, round=number, answers=count)

            judged = await answer_and_judge(asked, rounds.answers(number), settings, self._sampler, note)
            if judged.refused:
                count, first = len(judged.refused), judged.refused[0]
                await bake.warn(f"{count} answers of on-policy round {number} were left out; the first: {first}")
            record = await asyncio.to_thread(rounds.complete, number, [*judged.files, *map(Path, taught)])
        first_round = await asyncio.to_thread(rounds.read, 1)
        train = [str(bake.folder / name) for name in record.train or []]
        return Round(number, record.first_step, first_round.first_step, train)

    async def _run_process(self, bake: Bake, spec: TrainSpec, listener: TrainingListener) -> SavedCheckpoint:
        """Returns: the last checkpoint that it wrote."""
        listener.begin_process()
        try:
            await self._train_beside(bake, spec, listener)
        except NeedsRoomError as error:
            log.warning("job %d: %s", bake.job.id, error)
            await self._train_alone(spec, bake.folder, listener)
        if listener.last is None:
            raise TrainerLostError("the training process wrote no checkpoint: see its trainer.log")
        return listener.last

    async def _train_beside(self, bake: Bake, spec: TrainSpec, listener: TrainingListener) -> None:
        """Train while the engine serves, on the engine's weights if it lends them."""
        if self._base.lends_weights and spec.devices == 1 and bake.job.inputs.student is None:
            try:
                lent = await self._base.lend_weights()
            except NotLentError as error:
                await bake.warn(f"the engine's weights can't be shared, so training loads its own copy: {error}")
            else:
                await self._train_on_lent(lent, spec, bake.folder, listener)
                return
        await launcher.train(spec, bake.folder, listener.hear)

    async def _train_on_lent(
        self, lent: LentWeights, spec: TrainSpec, folder: Path, listener: TrainingListener
    ) -> None:
        file = folder / ENGINE_WEIGHTS
        await asyncio.to_thread(write_bytes, file, lent.handles)
        try:
            spec = msgspec.structs.replace(spec, engine_weights=str(file))
            await launcher.train(spec, folder, listener.hear, lent.gone)
        finally:
            file.unlink(missing_ok=True)

    async def _train_alone(self, spec: TrainSpec, folder: Path, listener: TrainingListener) -> None:
        """Train while the engine sleeps. Requests wait for it, or are refused with a time to retry."""
        try:
            await self._base.sleep()
            await launcher.train(
                msgspec.structs.replace(spec, engine_share=0.0, is_engine_asleep=True), folder, listener.hear
            )
        finally:
            await asyncio.shield(self._base.wake())

    def _spec(self, bake: Bake, mix: Mix[str], start: Start | None) -> TrainSpec:
        student, config = bake.job.inputs.student, bake.config
        adapter = None if bake.parent is None else bake.parent.path
        if start is not None:
            adapter, config = start.adapter, settings_from(start, config, len(mix.train))
        return TrainSpec(
            name=f"{bake.job.repo}/{bake.job.name}",
            base_model=str(self._base.path if student is None else student_folder(self._home, student)),
            base_model_name=self._base.name if student is None else student,
            parent_adapter=None if adapter is None else str(adapter),
            train=mix.train,
            held_out=mix.held_out,
            output=str(bake.folder / CHECKPOINTS),
            metrics=str(bake.folder / METRICS),
            config=config.settled(is_own_teacher=bake.job.inputs.is_own_teacher),
            neutral=[str(path) for path in bake.neutral],
            state=str(bake.folder / STATE) if bake.config.resumes else None,
            draws_curves=True,
            allows_wandb=self._settings.allows_wandb,
            threads=self._settings.threads,
            engine_share=self._base.sleep_share,
        )

    async def _inherit(self, bake: Bake) -> None:
        """Continue the last run of the same bake with the same inputs, which was cancelled or failed. Its checkpoints
        stay served and belong to this run from now on."""
        job, folder = bake.job, bake.folder
        before = await self._catalog(bakes.job_before, job)
        if before is None or (folder / STATE).exists():
            return
        old = folder.with_name(str(before.id))
        # Where the branch was decides where the result's name goes, not what is trained.
        inputs = msgspec.structs.replace(before.inputs, branch_tip=job.inputs.branch_tip)
        if (before.config, inputs) != (bake.config, job.inputs):
            for name in (STATE, ROUNDS):
                await asyncio.to_thread(shutil.rmtree, old / name, ignore_errors=True)
        if not (old / STATE).exists():
            return
        await self._catalog(checkpoints.hand_over, before, job)
        for name in MOVED:
            if (old / name).exists():
                (old / name).replace(folder / name)
        bake.job = msgspec.structs.replace(job, progress_percent=before.progress_percent, loss=before.loss)
