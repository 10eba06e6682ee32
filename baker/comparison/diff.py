"""What differs between two versions: what they say, their weights, and what they were made of.

Every part is stored when it is complete, so a second call gives the same result: see `results.py`.
"""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec

from baker.comparison import probes, weights
from baker.comparison.hunks import Hunk, hunk, most_changed
from baker.comparison.probe_set import Row, RowKind, held_out_rows, question_of, rows_hash, trajectory_rows
from baker.comparison.recipe_text import recipe_diff
from baker.comparison.results import Pair, Results
from baker.comparison.scorer import ANSWER_TOKENS, OnProgress, Progress, Scorer
from baker.comparison.scores import Scores, requests_for, score
from baker.comparison.statistics import GroupStat, group_stats
from baker.comparison.versions import Version, read_history
from baker.comparison.weights import WeightsDiff
from baker.errors import InvalidInputError, RolloutError
from baker.history.probe_table import Conversation
from baker.ports import ServedModel
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.trajectories.neutral import NeutralAnswers

TOKENS_SHOWN = 20
"""Tokens that became likelier, and as many that became less likely, in a result."""


class Part(StrEnum):
    STAT = "stat"
    PATCH = "patch"
    TOKENS = "tokens"
    WEIGHTS = "weights"
    RECIPE = "recipe"


SCORED = frozenset({Part.STAT, Part.PATCH, Part.TOKENS})
"""Parts that the engine is asked for."""


class DiffRequest(msgspec.Struct, frozen=True):
    a: str
    """Revision, or `base`."""
    b: str
    parts: frozenset[Part]
    probe: str | None = None
    conversations: list[Conversation] | None = None
    """Ad-hoc questions. Neither these nor a probe: the rows that the versions' bakes held out."""
    limit: int = 5
    """Most questions of the patch."""
    max_rows: int = 32
    """Most rows besides the neutral ones."""


class TokenChange(msgspec.Struct, frozen=True):
    id: int
    text: str
    change: float
    """How much more often b expects it, over all positions: a sum of probabilities."""


class TokenChanges(msgspec.Struct, frozen=True):
    positions: int
    likelier: list[TokenChange]
    less_likely: list[TokenChange]


class ProbeSummary(msgspec.Struct, frozen=True):
    name: str | None
    rows: int
    """Neutral ones included."""
    sha256: str
    """Hash of all rows as tokens."""


class Diff(msgspec.Struct, frozen=True):
    a: Version
    b: Version
    probe: ProbeSummary | None
    """None if the engine was not asked."""
    warnings: list[str]
    stat: list[GroupStat] | None = None
    patch: list[Hunk] | None = None
    tokens: TokenChanges | None = None
    weights: WeightsDiff | None = None
    recipe: str | None = None


class _Chosen(msgspec.Struct, frozen=True):
    pair: Pair
    recipe: str
    name: str | None
    conversations: list[Conversation] | None


class Diffs:
    def __init__(
        self,
        home: Path,
        catalog: OneThread[Catalog],
        scorer: Scorer,
        base: ServedModel,
        neutral: NeutralAnswers,
    ) -> None:
        self._home, self._catalog, self._scorer, self._base = home, catalog, scorer, base
        self._neutral = neutral
        self._results = Results(catalog)

    async def diff(self, user: str, repo: str, request: DiffRequest, on_progress: OnProgress) -> Diff:
        """Raises: InvalidInputError; NotFoundError; ConfigError; AdapterError; EngineError. Parts that are complete by
        then stay stored, also when this is cancelled."""
        chosen = await self._catalog(_choose, user, repo, request)
        pair = chosen.pair
        result = Diff(pair.a, pair.b, None, [])
        if SCORED & request.parts:
            result = await self._scored(result, chosen, request, on_progress)
        changes: dict[str, object] = {}
        if Part.WEIGHTS in request.parts:
            compare = partial(asyncio.to_thread, weights.compare, pair.a.checkpoint, pair.b.checkpoint, self._base.path)
            changes["weights"] = await self._results.once(pair, Part.WEIGHTS, None, WeightsDiff, compare)
        if Part.RECIPE in request.parts:
            changes["recipe"] = chosen.recipe
        return msgspec.structs.replace(result, **changes)

    async def _scored(self, result: Diff, chosen: _Chosen, request: DiffRequest, on_progress: OnProgress) -> Diff:
        pair, scorer = chosen.pair, self._scorer
        warnings: list[str] = []
        own = await self._own_rows(chosen, request, warnings)
        neutral = await self._neutral_rows(warnings)
        if not own and not neutral:
            raise InvalidInputError(f"there is nothing to compare the versions on: {'; '.join(warnings)}")
        shown = min(request.limit, len(own) + len(neutral)) if Part.PATCH in request.parts else 0
        parts = [part for part in (own, neutral) if part]
        costs = [requests_for(rows, pair.a, pair.b) for rows in parts]
        progress = Progress(sum(costs) + 2 * shown, on_progress)
        scores: list[Scores] = []
        for number, rows in enumerate(parts):
            compute = partial(score, rows, pair.a, pair.b, scorer, progress.step)
            scores.append(await self._results.once(pair, "scores", self._settings(rows), Scores, compute))
            progress.reach(sum(costs[: number + 1]))
        rows = [*own, *neutral]
        row_scores = [each for part in scores for each in part.rows]
        hunks = []
        for number, (row, row_score) in enumerate(most_changed(rows, row_scores, shown)):
            compute_hunk = partial(hunk, row, row_score, pair.a, pair.b, scorer, progress.step)
            hunks.append(await self._results.once(pair, "hunk", self._settings([row]), Hunk, compute_hunk))
            progress.reach(sum(costs) + 2 * (number + 1))
        return msgspec.structs.replace(
            result,
            probe=ProbeSummary(chosen.name, len(rows), rows_hash(rows)),
            warnings=warnings,
            stat=group_stats(rows, row_scores) if Part.STAT in request.parts else None,
            patch=hunks if Part.PATCH in request.parts else None,
            tokens=token_changes(scores, scorer) if Part.TOKENS in request.parts else None,
        )

    def _settings(self, rows: Sequence[Row]) -> dict[str, object]:
        return {"rows": rows_hash(rows), "top": self._scorer.top_logprobs, "answer_tokens": ANSWER_TOKENS}

    async def _own_rows(self, chosen: _Chosen, request: DiffRequest, warnings: list[str]) -> list[Row]:
        """The rows of the targets, the probe or the questions."""
        conversations = chosen.conversations
        if conversations is None:
            checkpoints = [each.checkpoint for each in (chosen.pair.a, chosen.pair.b) if each.checkpoint is not None]
            rows = await asyncio.to_thread(held_out_rows, self._home, checkpoints, request.max_rows)
            if not rows:
                warnings.append(
                    "neither version has held-out rows here (imported adapters and versions without data have none): "
                    "compared on the neutral questions only; name a probe or questions to compare on those"
                )
            return rows
        if len(conversations) > request.max_rows:
            warnings.append(f"compared on the first {request.max_rows} of {len(conversations)} conversations: max_rows")
        kind = RowKind.QUESTION if chosen.name is None else RowKind.PROBE
        return [
            Row(kind, chosen.name or "questions", question_of(each), await self._scorer.context(each))
            for each in conversations[: request.max_rows]
        ]

    async def _neutral_rows(self, warnings: list[str]) -> list[Row]:
        try:
            files = await self._neutral.files()
        except (InvalidInputError, RolloutError) as error:
            warnings.append(f"not compared on neutral questions, which the base model can't answer: {error}")
            return []
        return await asyncio.to_thread(trajectory_rows, files, RowKind.NEUTRAL, "neutral")


def _choose(catalog: Catalog, user: str, repo: str, request: DiffRequest) -> _Chosen:
    """What the request names. Raises: NotFoundError; InvalidInputError; ConfigError."""
    history = read_history(catalog, user, repo)
    pair = Pair(user, repo, history.version(request.a), history.version(request.b))
    if request.probe is not None and request.conversations is not None:
        raise InvalidInputError("name a probe or give questions, not both")
    conversations = request.conversations
    if conversations is not None:
        probes.check(conversations)
    if request.probe is not None:
        conversations = probes.get(catalog, user, repo, request.probe).conversations
    recipe = recipe_diff(catalog, pair.a, pair.b) if Part.RECIPE in request.parts else ""
    return _Chosen(pair, recipe, request.probe, conversations)


def token_changes(scores: Sequence[Scores], scorer: Scorer) -> TokenChanges:
    """The tokens with the largest changes over all rows."""
    total: dict[int, float] = {}
    for part in scores:
        for token, change in part.changes.items():
            total[int(token)] = total.get(int(token), 0.0) + change
    ordered = sorted(total.items(), key=lambda item: (item[1], item[0]))

    def shown(items: Sequence[tuple[int, float]]) -> list[TokenChange]:
        return [TokenChange(token, scorer.texts([token])[0], change) for token, change in items]

    return TokenChanges(
        positions=sum(row.tokens for part in scores for row in part.rows),
        likelier=shown([item for item in ordered[::-1] if item[1] > 0][:TOKENS_SHOWN]),
        less_likely=shown([item for item in ordered if item[1] < 0][:TOKENS_SHOWN]),
    )
