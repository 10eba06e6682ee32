"""One merge: its versions, their rows, and everything that is measured on them."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from baker.adapters.combine import Combination, Term, combine
from baker.comparison.results import Pair, Results
from baker.comparison.versions import Version
from baker.config.bake import BakeConfig
from baker.errors import InvalidInputError, RolloutError
from baker.history.commit import content_id
from baker.merge_report import Conflict, MergeReport
from baker.merging import evaluation, gate
from baker.merging.evaluation import SideScores
from baker.merging.rows import MergeData, Row, read_rows
from baker.merging.scoring import RowScore, Scores, score
from baker.ports import Sampler, ServedModel
from baker.storage.files import publish_folder
from baker.storage.job_inputs import MergeInputs
from baker.trajectories.neutral import NeutralAnswers
from baker.types import Checkpoint, Distribution, SampleRequest

PROBE_TOKENS = 64
"""Longest answer to a probe's question."""
ENERGY = 1 - 1e-8
"""Share of the sum's energy to keep. Versions that share a part cancel it up to the rounding of their files, and that
rounding would count as rank with a higher share."""
SHOWN_TOKENS = 32
"""Longest answer that is shown for a question in conflict."""


class Tools(NamedTuple):
    """What merges ask."""

    sampler: Sampler
    served: ServedModel
    neutral: NeutralAnswers
    results: Results
    top_logprobs: int


OnProgress = Callable[[int, int], None]
"""Hears how many rows are scored, and of how many."""


class Place(NamedTuple):
    user: str
    repo: str


class Merge:
    def __init__(
        self,
        place: Place,
        config: BakeConfig,
        inputs: MergeInputs,
        versions: Mapping[str, Version],
        base: Version,
        data: MergeData,
        tools: Tools,
    ) -> None:
        """Args: versions: label -> that side. data: rows of the same sides."""
        self._place, self._config, self._inputs = place, config, inputs
        self._versions, self._base, self._tools = versions, base, tools
        self.data = data
        self.weights = {side.label: side.weight for side in inputs.sides}
        resolution = config.merge.meant_resolution
        self.loser = None if resolution is None else inputs.sides[1 if resolution == "ours" else 0].label
        """Label of the version that is not learned where the two contradict each other."""
        self._rows: dict[str, list[Row]] | None = None

    def with_data(self, data: MergeData) -> "Merge":
        """The same merge, measured on other rows."""
        return Merge(self._place, self._config, self._inputs, self._versions, self._base, data, self._tools)

    async def combine(self, folder: Path) -> Combination:
        """Write the versions' weighted sum. The folder appears when it is complete. Raises: AdapterError."""
        terms = [
            Term(version.checkpoint.path, self.weights[label])
            for label, version in self._versions.items()
            if version.checkpoint is not None
        ]
        if self._base.checkpoint is not None:
            terms.append(Term(self._base.checkpoint.path, self._inputs.base_weight))
        return await asyncio.to_thread(self._combine, terms, folder)

    def _combine(self, terms: Sequence[Term], folder: Path) -> Combination:
        temporary = folder.with_name(f".{folder.name}")
        served = self._tools.served
        rank = min(self._config.merge.rank or served.max_lora_rank, served.max_lora_rank)
        combination = combine(terms, temporary, max_rank=rank, energy=ENERGY, base_model_name=served.name)
        publish_folder(temporary, folder)
        return combination

    async def conflict(self, on_progress: OnProgress = lambda done, total: None) -> Conflict:
        """Where versions moved the merge base's answers apart. Raises: StageError; EngineError."""
        rows_of = await self.rows()
        done, total = 0, sum(map(len, rows_of.values())) * (1 + len(self._versions))
        on_progress(done, total)
        scored = []
        for label, rows in rows_of.items():
            scores = {}
            for name, version in {"": self._base, **self._versions}.items():
                scores[name] = await self._scores(rows, version)
                done += len(rows)
                on_progress(done, total)
            scored.append(SideScores(label, rows, scores.pop(""), scores))
        conflict, worst = evaluation.conflict(scored, has_equal_contexts=self._has_equal_contexts())
        questions = [
            evaluation.conflict_question(
                each, {label: await self._answer(each, version) for label, version in self._versions.items()}
            )
            for each in worst
        ]
        return msgspec.structs.replace(conflict, questions=questions)

    async def _answer(self, worst: evaluation.Worst, version: Version) -> str:
        request = SampleRequest(
            context_ids=worst.side.rows[worst.row].context_ids,
            adapter=version.checkpoint,
            max_tokens=SHOWN_TOKENS,
            temperature=0.0,
        )
        return (await self._tools.sampler.sample(request)).text

    def _has_equal_contexts(self) -> bool:
        """Whether the students of two versions see the same prompt before the question."""
        contexts = [context for side in self._inputs.sides for context in side.contexts]
        return len(contexts) > len(set(contexts))

    async def measure(self, merged: Checkpoint, report: MergeReport) -> MergeReport:
        """The report with what is left of each version, the drift, and the verdict. The engine must serve `merged`.

        Raises: StageError; AdapterError; EngineError.
        """
        retention = {}
        for label, rows in (await self.rows()).items():
            if not rows:
                continue
            retention[label] = await asyncio.to_thread(
                evaluation.retention,
                await self._scores(rows, self._base),
                await self._scores(rows, self._versions[label]),
                (await score(rows, merged, self._tools.sampler, self._tools.top_logprobs)).rows,
                is_removed=self.weights[label] < 0,
                yields=label == self.loser,
            )
        drift, limit = await self._drift(merged, is_distilled=report.strategy != "algebra")
        report = msgspec.structs.replace(report, retention=retention, drift=drift, drift_limit=limit)
        return gate.judged(report, self.weights, self._unmeasured(retention))

    def _unmeasured(self, measured: Collection[str]) -> list[str]:
        """Labels of the versions that changed something of their own, but have no rows to measure that on. One that
        yields may have none left."""
        changed = [side.label for side in self._inputs.sides if side.jobs and side.weight and side.label != self.loser]
        return [label for label in changed if label not in measured]

    async def _drift(self, merged: Checkpoint, *, is_distilled: bool) -> tuple[float | None, float | None]:
        try:
            files = await self._tools.neutral.files()
        except (InvalidInputError, RolloutError):  # the base model can't answer in a bare conversation
            return None, None
        rows = await asyncio.to_thread(read_rows, [("", file) for file in files])
        own = {label: evaluation.drift(await self._scores(rows, each)) for label, each in self._versions.items()}
        scores = await score(rows, merged, self._tools.sampler, self._tools.top_logprobs)
        return evaluation.drift(scores.rows), gate.drift_limit(own, is_distilled=is_distilled)

    async def rows(self) -> dict[str, list[Row]]:
        """Label -> the rows on which that version is measured: those that it held out, or the probe's."""
        if self._rows is None:
            self._rows = {}
            for label, side in self.data.sides.items():
                own = await asyncio.to_thread(read_rows, side.held_out)
                self._rows[label] = own or await self._probe_rows(self._versions[label])
        return self._rows

    async def _probe_rows(self, version: Version) -> list[Row]:
        """The version's own answers to the probe's questions: it is its own teacher."""
        rows = []
        for conversation in self._inputs.probe:
            context = await self._tools.sampler.tokenise(conversation)
            request = SampleRequest(
                context_ids=context,
                adapter=version.checkpoint,
                max_tokens=PROBE_TOKENS,
                temperature=0.0,
                top_logprobs=self._tools.top_logprobs,
            )
            answer = await self._tools.sampler.sample(request)
            predicted = Distribution(answer.top_ids_TK, answer.top_logprobs_TK)
            rows.append(Row(str(conversation[-1].get("content")), context, answer.response_ids, predicted))
        return rows

    async def _scores(self, rows: Sequence[Row], version: Version) -> list[RowScore]:
        """Stored, so that a dry run, a merge after it and a resumed one ask once."""
        if not rows:
            return []
        pair = Pair(self._place.user, self._place.repo, self._base, version)
        # Seconds for thousands of rows: not on the event loop.
        settings = {"rows": await asyncio.to_thread(_hash, rows), "top": self._tools.top_logprobs}
        compute = partial(score, rows, version.checkpoint, self._tools.sampler, self._tools.top_logprobs)
        return (await self._tools.results.once(pair, "merge", settings, Scores, compute)).rows

    async def without_conflicts(self, loser: str) -> MergeData:
        """The rows without those of the losing side that another version answers in a different way."""
        side = self.data.sides[loser]
        rows = await asyncio.to_thread(read_rows, [*side.train, *side.held_out])
        of_base = await self._scores(rows, self._base)
        others = [await self._scores(rows, version) for version in self._versions.values()]
        kept = []
        for index, base in enumerate(of_base):
            found = evaluation.row_conflict(base, [scores[index] for scores in others])
            kept.append(not found.moved or found.conflicts / found.moved <= gate.MOST_CONFLICT)
        count = len(side.train)
        train = [pair for pair, is_kept in zip(side.train, kept[:count], strict=True) if is_kept]
        held_out = [pair for pair, is_kept in zip(side.held_out, kept[count:], strict=True) if is_kept]
        changed = side._replace(train=train, held_out=held_out)
        return self.data._replace(sides={**self.data.sides, loser: changed})


def _hash(rows: Sequence[Row]) -> str:
    return content_id([[row.context_ids, row.response_ids, row.teacher.top_ids_TK.tolist()] for row in rows])
