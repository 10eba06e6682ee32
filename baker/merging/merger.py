"""Runs merges: the sum of the weights, its proof, and a training from there if the sum is not enough.

jobs/<number>/sum/            the weighted sum of the versions
jobs/<number>/algebra/0/      the same with a parity certificate, written by a training process that trains nothing
jobs/<number>/checkpoints/    what is published: 0 if the sum was enough, else as in `jobs/bake_stage.py`
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from baker.adapters.combine import Combination
from baker.comparison.results import Results
from baker.comparison.versions import BASE_VERSION, Version
from baker.config.bake import BakeConfig, epochs_for
from baker.config.merge import MergeConfig
from baker.errors import AdapterError, MergeConflictError, StageError, TrainingError
from baker.merge_report import MergeReport, Verdict
from baker.merging import gate
from baker.merging.merge import Merge, OnProgress, Place, Tools
from baker.merging.rows import MergeData, linked_data, merge_data
from baker.ports import Sampler, ServedModel
from baker.repos import models
from baker.repos.catalog import Catalog
from baker.status import Loss
from baker.storage.files import new_folder
from baker.storage.home import ALGEBRA, DATA, SUM, checkpoint_folder, jobs_folder
from baker.storage.job_inputs import MergeInputs
from baker.storage.one_thread import OneThread
from baker.trajectories.collate import Mix
from baker.trajectories.neutral import NeutralAnswers
from baker.types import Checkpoint, SavedCheckpoint
from baker.versions.publishing import Bake, Publisher, Result

STEPS_SHARE = 0.4
"""A distilled merge makes so many passes as a share of those of a bake over the same rows: it starts near its end."""


class Start(NamedTuple):
    """What a training begins from, in place of the bake's parent and its rollouts."""

    adapter: Path
    rank: int
    link_rows: Callable[[], Mix[str]]
    """Links the rows to train on into the job's folder, and mixes them. Blocks."""


WriteUntrained = Callable[[Bake, Start], Awaitable[tuple[SavedCheckpoint, Loss]]]
"""Writes the adapter of the start, with its certificate, into `algebra/0`, and evaluates it."""
Train = Callable[[Bake, Start | None], Awaitable[Result]]
"""Trains. None: from the bake's parent, on its rollouts."""


class Merger:
    def __init__(
        self,
        home: Path,
        catalog: OneThread[Catalog],
        sampler: Sampler,
        served: ServedModel,
        publisher: Publisher,
        neutral: NeutralAnswers,
        top_logprobs: int,
    ) -> None:
        self._home, self._catalog, self._publisher = home, catalog, publisher
        self._tools = Tools(sampler, served, neutral, Results(catalog), top_logprobs)
        self._neutral = neutral

    async def open(self, user: str, repo: str, config: BakeConfig, inputs: MergeInputs) -> Merge:
        """Raises: StageError if a version's weights were deleted."""
        versions, base = await self._catalog(_versions, user, repo, inputs)
        data = await asyncio.to_thread(merge_data, self._home, inputs)
        return Merge(Place(user, repo), config, inputs, versions, base, data, self._tools)

    async def run(self, bake: Bake, write_untrained: WriteUntrained, train: Train) -> Result:
        """Make the merge and judge it. What is done is not repeated after an interruption.

        Raises: MergeConflictError, and the errors of the bake stage.
        """
        job, config, inputs = bake.job, bake.config.merge, bake.job.inputs.merge
        assert inputs is not None
        merge = await self.open(job.user, job.repo, bake.config, inputs)
        report = msgspec.structs.replace(job.merge or MergeReport(config.meant_kind), phase="comparing")
        await self._note(bake, report)
        report = await self._check_conflict(bake, merge, report)
        if merge.data.dropped:
            await bake.warn(f"{merge.data.dropped} rows are not trained on: another version held out their questions")
        if job.inputs.targets:
            report = msgspec.structs.replace(report, strategy="compose")
            return await self._trained(bake, merge, report, train, None)
        if report.rank is None:  # a sum that was written before a crash, but not noted, is made again
            await asyncio.to_thread(shutil.rmtree, bake.folder / SUM, ignore_errors=True)
            report = _with_sum(report, await merge.combine(bake.folder / SUM))
        report = msgspec.structs.replace(report, phase="adding up")
        await self._note(bake, report)
        resolution, strategy = config.meant_resolution, config.meant_strategy
        is_sum_tried = strategy in ("auto", "algebra") and resolution is None and report.strategy != "distill"
        if is_sum_tried:
            added = await self._added_up(bake, merge, report, write_untrained)
            is_enough = strategy == "algebra" or added.report.verdict is not Verdict.HELD_BACK
            if is_enough or not _can_train(merge.data, merge.weights):
                await asyncio.to_thread(_publish_sum, bake.folder)
                return added.result
            report = added.report
        if not _can_train(merge.data, merge.weights):
            raise TrainingError(
                "the versions' questions and answers are not here (imported and received versions have none), so the "
                "merge can't be distilled: choose the strategy algebra"
            )
        report = _to_distill(report)
        await self._note(bake, report)
        if merge.loser is not None:
            merge = merge.with_data(await merge.without_conflicts(merge.loser))
        return await self._trained(bake, merge, report, train, _start(bake, merge, report))

    async def preview(
        self, user: str, repo: str, config: BakeConfig, inputs: MergeInputs, on_progress: OnProgress
    ) -> MergeReport:
        """What a merge would begin with: its conflict, its rank, and what the cut would lose. Nothing is kept but the
        versions' scores.

        Raises: StageError; AdapterError; EngineError.
        """
        merge = await self.open(user, repo, config, inputs)
        report = MergeReport(config.merge.meant_kind, conflict=await merge.conflict(on_progress))
        with tempfile.TemporaryDirectory(prefix=".merge-", dir=jobs_folder(self._home)) as folder:
            return _with_sum(report, await merge.combine(Path(folder) / SUM))

    async def questions(self, inputs: MergeInputs) -> list[str]:
        """Those that the versions were trained on, and held out."""
        data = await asyncio.to_thread(merge_data, self._home, inputs)
        rows = [row for side in data.sides.values() for row in (*side.train, *side.held_out)]
        return list(dict.fromkeys(stimulus for stimulus, _ in rows))

    async def _check_conflict(self, bake: Bake, merge: Merge, report: MergeReport) -> MergeReport:
        if report.conflict is None:
            report = msgspec.structs.replace(report, conflict=await merge.conflict())
            await self._note(bake, report)
        if (complaint := conflict_of(report, bake.config.merge)) is not None:
            raise MergeConflictError(complaint)
        return report

    async def _added_up(
        self, bake: Bake, merge: Merge, report: MergeReport, write_untrained: WriteUntrained
    ) -> "_Added":
        """The sum as a checkpoint, judged."""
        saved, loss = await write_untrained(bake, _start(bake, merge, report))
        folder = bake.folder / ALGEBRA / str(saved.step)
        report = msgspec.structs.replace(report, strategy="algebra", phase="measuring")
        await self._note(bake, report)
        report = await self._judged(bake, merge, report, folder, saved.sha256)
        # The trainer measured the sum as a start: its values of before are the result's.
        loss = Loss(eval_kl=loss.eval_kl_before, agreement=loss.agreement_before, drift=loss.drift_before)
        return _Added(Result([saved], int(time.time()), loss, held_back=_held_back(report)), report)

    async def _trained(
        self, bake: Bake, merge: Merge, report: MergeReport, train: Train, start: Start | None
    ) -> Result:
        report = msgspec.structs.replace(report, phase="training")
        await self._note(bake, report)
        result = await train(bake, start)
        report = msgspec.structs.replace(report, phase="measuring")
        await self._note(bake, report)
        last = result.checkpoints[-1]
        report = await self._judged(bake, merge, report, checkpoint_folder(bake.folder, last.step), last.sha256)
        if report.strategy == "compose":
            report = gate.judged_composed(report, result.loss)
            await self._note(bake, report)
        return msgspec.structs.replace(result, held_back=_held_back(report))

    async def _judged(self, bake: Bake, merge: Merge, report: MergeReport, folder: Path, sha256: str) -> MergeReport:
        """The report after the measurements of the adapter in `folder`, for which the engine serves it for a while.

        Raises: TrainingError if the engine does not serve it as it was written; EngineError.
        """
        job = bake.job
        # Names can't have a "~", so this is no other checkpoint's.
        checkpoint = Checkpoint(job.user, job.repo, f"{job.name}~", int(folder.name), folder, sha256, 0, job.id)
        try:
            await self._publisher.prove(checkpoint)
        except AdapterError as error:
            raise TrainingError(f"the merge was written, but it is not served as it was written: {error}") from error
        try:
            report = await merge.measure(checkpoint, report)
        finally:
            await asyncio.shield(self._publisher.retire(checkpoint))
        report = msgspec.structs.replace(report, phase=None)
        await self._note(bake, report)
        return report

    async def _note(self, bake: Bake, report: MergeReport) -> None:
        bake.job = msgspec.structs.replace(bake.job, merge=report)
        await self._catalog(Catalog.update_job, bake.job.id, merge=report)


class _Added(NamedTuple):
    result: Result
    report: MergeReport


def conflict_of(report: MergeReport, config: MergeConfig) -> str | None:
    """Why the merge stops; None if it may go on."""
    conflict = report.conflict
    is_settled = config.meant_resolution is not None or config.weights or config.meant_strategy == "compose"
    if conflict is None or config.meant_kind != "merge" or is_settled or not gate.is_conflicting(conflict):
        return None
    worst = ", ".join(repr(each.question[:60]) for each in conflict.questions[:2])
    return (
        f"{conflict.share:.0%} of the tokens that the versions changed, they changed in different ways, such as for "
        f"{worst}, and they answer the same conversation: choose --ours or --theirs (merge.resolution), weights (-w), "
        "or the strategy compose"
    )


def _with_sum(report: MergeReport, combination: Combination) -> MergeReport:
    return msgspec.structs.replace(
        report,
        rank=combination.rank,
        full_rank=combination.full_rank,
        energy_lost=combination.energy_lost,
    )


def _start(bake: Bake, merge: Merge, report: MergeReport) -> Start:
    """A start from the sum, on the versions' own rows: the same part of each, however many it has."""
    data, weights = merge.data, merge.weights
    shares = {label: max(weights[label], 0.0) if side.train else 0.0 for label, side in data.sides.items()}
    link_rows = partial(linked_data, data, bake.folder / DATA, bake.config, shares)
    return Start(bake.folder / SUM, report.rank or 1, link_rows)


def _to_distill(report: MergeReport) -> MergeReport:
    kept = {label: each.retention for label, each in report.retention.items() if each.retention is not None}
    return msgspec.structs.replace(
        report, strategy="distill", algebra=report.algebra or kept, retention={}, verdict=None
    )


def _held_back(report: MergeReport) -> str | None:
    match report.verdict:
        case Verdict.PASSED:
            return None
        case Verdict.UNVERIFIED:
            return f"unverified: {'; '.join(report.failures)}: name questions (merge.probe), or promote it"
    return "; ".join(report.failures)


def _can_train(data: MergeData, weights: Mapping[str, float]) -> bool:
    """Whether each version that is kept has rows."""
    return all(side.train for label, side in data.sides.items() if weights[label] > 0)


def _versions(catalog: Catalog, user: str, repo: str, inputs: MergeInputs) -> tuple[dict[str, Version], Version]:
    """The sides by label, and the merge base. Raises: StageError if a version's weights were deleted."""
    commits = catalog.history.commits

    def version(commit_id: str, name: str) -> Version:
        checkpoint, commit = models.checkpoint_named(catalog, name), commits.find(user, repo, commit_id)
        if checkpoint is None or commit is None:
            raise StageError(f"version {commit_id[:12]} of the merge ({name}) was deleted")
        return Version(commit_id, commit, checkpoint)

    sides = {side.label: version(side.commit, side.checkpoint) for side in inputs.sides}
    if inputs.base is None or inputs.base_commit is None:
        return sides, BASE_VERSION
    return sides, version(inputs.base_commit, inputs.base)


def _publish_sum(folder: Path) -> None:
    """Make the sum with its certificate the bake's only checkpoint. Args: folder: the job's."""
    final = checkpoint_folder(folder, 0)
    shutil.rmtree(final.parent, ignore_errors=True)
    final.parent.mkdir(parents=True)
    with new_folder(final) as temporary:
        for file in (folder / ALGEBRA / "0").iterdir():
            shutil.copyfile(file, temporary / file.name)


def settings_from(start: Start, config: BakeConfig, rows: int) -> BakeConfig:
    """The settings of a training that begins from a merge's sum: its rank is the sum's, and it is shorter."""
    adapter = config.model.baked_adapter_config
    rank = max(start.rank, adapter.r)
    adapter = msgspec.structs.replace(adapter, r=rank, lora_alpha=adapter.lora_alpha * rank / adapter.r)
    epochs = config.epochs or max(1, round(STEPS_SHARE * epochs_for(max(rows, 1))))
    return msgspec.structs.replace(
        config, model=msgspec.structs.replace(config.model, baked_adapter_config=adapter), epochs=epochs
    )
