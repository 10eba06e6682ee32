"""The three comparisons, over one queue to the engine."""

from pathlib import Path

from baker.comparison.bisection import Bisections
from baker.comparison.blame import Blames
from baker.comparison.diff import Diffs
from baker.comparison.scorer import Scorer
from baker.ports import Sampler, ServedModel
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.trajectories.neutral import NeutralAnswers


class Comparisons:
    def __init__(
        self,
        home: Path,
        catalog: OneThread[Catalog],
        sampler: Sampler,
        base: ServedModel,
        neutral: NeutralAnswers,
        top_logprobs: int,
    ) -> None:
        scorer = Scorer(sampler, top_logprobs)
        self.diffs = Diffs(home, catalog, scorer, base, neutral)
        self.blames = Blames(catalog, scorer)
        self.bisections = Bisections(catalog, scorer)
