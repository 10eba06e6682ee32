"""Which version made an answer what it is: each token belongs to the one that raised its log-probability most."""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from baker.comparison import probes
from baker.comparison.results import Pair, Results
from baker.comparison.scorer import OnProgress, Progress, Scorer
from baker.comparison.versions import BASE, BASE_VERSION, Lineage, Version, lineage, read_history
from baker.errors import ConfigError, InvalidInputError
from baker.history import graph
from baker.history.probe_table import Conversation
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread

MOST_ANCESTORS = 32
MOST_CHARACTERS = 8000
"""Of a given answer."""
LEAST_GAIN = 0.1
"""Nats by which a version must raise a token's log-probability to own it: less is seldom more than rounding."""


class BlamedToken(msgspec.Struct, frozen=True):
    text: str
    commit: str
    """Id of the version that the token belongs to; BASE if none raised it."""
    logprob: float
    """Under the version that was asked about, in nats."""
    gain: float
    """Nats by which the version raised it over its parents; for BASE the largest raise, which was too small."""


class Share(msgspec.Struct, frozen=True):
    """What one version contributed to the answer."""

    version: Version
    tokens: int
    """Number of tokens that belong to it."""
    gain: float
    """Sum of their gains in nats."""


class Blame(msgspec.Struct, frozen=True):
    answer: str
    tokens: list[BlamedToken]
    ancestors: list[Share]
    """The version and its ancestors, newest first; last the base model."""
    warnings: list[str]


class Question(msgspec.Struct, frozen=True):
    model: str
    """Revision."""
    conversation: Conversation
    answer: str | None
    """None: the greedy answer of the model."""


class _Tokens(msgspec.Struct, frozen=True):
    """The part that is stored."""

    answer: str
    tokens: list[BlamedToken]


class Blames:
    def __init__(self, catalog: OneThread[Catalog], scorer: Scorer) -> None:
        self._catalog, self._scorer = catalog, scorer
        self._results = Results(catalog)

    async def blame(self, user: str, repo: str, question: Question, on_progress: OnProgress) -> Blame:
        """Raises: InvalidInputError; ConfigError; NotFoundError; AdapterError; EngineError."""
        version, ancestors = await self._catalog(_choose, user, repo, question)
        context_ids = await self._scorer.context(question.conversation)
        asked = [context_ids, question.answer, [each.id for each in ancestors.versions]]
        progress = Progress(len(ancestors.versions) + 1 + (question.answer is None), on_progress)
        compute = partial(self._blame, version, ancestors, context_ids, question.answer, progress)
        result = await self._results.once(Pair(user, repo, BASE_VERSION, version), "blame", asked, _Tokens, compute)
        shares = [_share(each, result.tokens) for each in (*ancestors.versions, BASE_VERSION)]
        return Blame(result.answer, result.tokens, shares, ancestors.warnings)

    async def _blame(
        self,
        version: Version,
        ancestors: Lineage,
        context_ids: Sequence[int],
        answer: str | None,
        progress: Progress,
    ) -> _Tokens:
        if answer is None:
            sample = await self._scorer.greedy(context_ids, version.checkpoint)
            answer, ids = sample.text, sample.response_ids
            progress.step()
        else:
            ids = self._scorer.encode(answer)
        logprobs_T = {}
        for each in (BASE_VERSION, *ancestors.versions):
            logprobs_T[each.id] = np.array(await self._scorer.logprobs(context_ids, ids, each.checkpoint))
            progress.step()
        owners, gains = owners_of(logprobs_T, ancestors.parents, [each.id for each in ancestors.versions])
        rows = zip(self._scorer.texts(ids), owners, logprobs_T[version.id].tolist(), gains, strict=True)
        return _Tokens(answer, [BlamedToken(*row) for row in rows])


def owners_of(
    logprobs_T: Mapping[str, NDArray[np.float64]], parents: Mapping[str, Sequence[str]], newest_first: Sequence[str]
) -> tuple[list[str], list[float]]:
    """The owner of each of the T tokens, and its gain over its parents; with several parents, over the best of them.

    Args:
        logprobs_T: log-probability of each token under each version, and under BASE.
        parents: id of a version -> ids of what it continues.
    """
    gains_VT = np.array(
        [logprobs_T[each] - np.max([logprobs_T[parent] for parent in parents[each]], axis=0) for each in newest_first]
    )
    best_T = gains_VT.argmax(axis=0)
    gain_T = gains_VT.max(axis=0)
    owners = [
        newest_first[best] if gain >= LEAST_GAIN else BASE
        for best, gain in zip(best_T.tolist(), gain_T.tolist(), strict=True)
    ]
    return owners, gain_T.tolist()


def _choose(catalog: Catalog, user: str, repo: str, question: Question) -> tuple[Version, Lineage]:
    history = read_history(catalog, user, repo)
    version = history.version(question.model)
    if version.checkpoint is None:
        raise InvalidInputError("the base model has no ancestors: name a version")
    probes.check([question.conversation])
    if question.answer is not None and not question.answer:
        raise ConfigError("the answer is empty: leave it out to blame the model's own answer")
    if question.answer is not None and len(question.answer) > MOST_CHARACTERS:
        raise ConfigError(
            f"the answer has {len(question.answer)} characters, at most {MOST_CHARACTERS} are allowed: cut it"
        )
    ancestors = graph.ancestors(history.view.parents, [version.id])
    return version, lineage(history, ancestors, MOST_ANCESTORS)


def _share(version: Version, tokens: Sequence[BlamedToken]) -> Share:
    own = [token.gain for token in tokens if token.commit == version.id]
    return Share(version, len(own), 0.0 if version.id == BASE else sum(own))
