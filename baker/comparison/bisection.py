"""Since which version an answer is as it is: all versions between a good and a bad one are asked, so that every flip is
seen, not only one that a binary search happens to find."""

import asyncio
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial

import msgspec

from baker.comparison import probes
from baker.comparison.results import Pair, Results
from baker.comparison.scorer import OnProgress, Progress, Scorer
from baker.comparison.versions import BASE, BASE_VERSION, Lineage, RepoHistory, Version, lineage, read_history
from baker.errors import ConfigError, InvalidInputError
from baker.history import graph
from baker.history.probe_table import Conversation
from baker.pattern_search import count_matches
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread

MOST_VERSIONS = 64
MOST_SAMPLES = 16
MOST_CHARACTERS = 1000
"""Of an expected text or a pattern."""
PATTERN_CPU_SECONDS = 2
"""Longest search in the answers of one version: some patterns take exponential time."""
LEAST_DIFFERENCE = 0.1
"""Nats per token by which the ends must differ on an expected text: less is seldom more than rounding."""


class State(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Question(msgspec.Struct, frozen=True):
    """What to ask, and what to expect; without `expect` and `pattern`, the answers are returned for the client to
    judge."""

    good: str
    """Revision, or BASE."""
    bad: str
    conversation: Conversation
    expect: str | None = None
    """How likely a version is to begin its answer with this text is its score: mean log-probability, nats per token."""
    pattern: str | None = None
    """Regular expression. The share of a version's answers in which it is found is its score."""
    samples: int = 1
    """Answers of each version: one is the greedy one, several are drawn at temperature 1."""


class Trial(msgspec.Struct, frozen=True):
    """What one version did."""

    score: float | None
    answers: list[str]


class Step(msgspec.Struct, frozen=True):
    version: Version
    score: float | None
    """None if the client judges the answers."""
    state: State | None
    answers: list[str]


class Bisection(msgspec.Struct, frozen=True):
    steps: list[Step]
    """From the good end to the bad one."""
    flips: list[Version]
    """Versions whose state differs from that of the version that they continue."""
    first_bad: Version | None
    """The last flip to bad: from there on, all versions are bad."""
    warnings: list[str]


class _Trials(msgspec.Struct, frozen=True):
    trials: list[Trial]


class Bisections:
    def __init__(self, catalog: OneThread[Catalog], scorer: Scorer) -> None:
        self._catalog, self._scorer = catalog, scorer
        self._results = Results(catalog)

    async def bisect(self, user: str, repo: str, question: Question, on_progress: OnProgress) -> Bisection:
        """Raises: InvalidInputError if there is nothing between the ends, or both do the same; ConfigError;
        NotFoundError; AdapterError; EngineError."""
        pair, path = await self._catalog(_choose, user, repo, question)
        if question.pattern is not None:  # before any version is asked
            await asyncio.to_thread(_count_matches, question.pattern, [])
        versions = [*([BASE_VERSION] if pair.a.id == BASE else []), *reversed(path.versions)]
        context_ids = await self._scorer.context(question.conversation)
        asked = [context_ids, question.expect, question.pattern, question.samples, [each.id for each in versions]]
        each_asks = question.samples if question.expect is None else 1
        progress = Progress(len(versions) * each_asks, on_progress)
        compute = partial(self._try_all, versions, context_ids, question, progress)
        trials = (await self._results.once(pair, "bisect", asked, _Trials, compute)).trials
        least = 0.0 if question.expect is None else LEAST_DIFFERENCE
        states = states_of([trial.score for trial in trials], least)
        steps = [
            Step(version, trial.score, state, trial.answers)
            for version, trial, state in zip(versions, trials, states, strict=True)
        ]
        flips = flips_of(steps, path.parents)
        to_bad = [step.version for step in flips if step.state is State.BAD]
        return Bisection(steps, [step.version for step in flips], to_bad[-1] if to_bad else None, path.warnings)

    async def _try_all(
        self, versions: Sequence[Version], context_ids: Sequence[int], question: Question, progress: Progress
    ) -> _Trials:
        if question.expect is None:
            return _Trials([await self._answers(version, context_ids, question, progress) for version in versions])
        ids = self._scorer.encode(question.expect)
        trials = []
        for version in versions:
            logprobs = await self._scorer.logprobs(context_ids, ids, version.checkpoint)
            trials.append(Trial(sum(logprobs) / len(logprobs), []))
            progress.step()
        return _Trials(trials)

    async def _answers(
        self, version: Version, context_ids: Sequence[int], question: Question, progress: Progress
    ) -> Trial:
        model = version.checkpoint
        answers = []
        for seed in range(question.samples):
            if question.samples == 1:
                sample = await self._scorer.greedy(context_ids, model)
            else:
                sample = await self._scorer.sampled(context_ids, model, seed)
            answers.append(sample.text)
            progress.step()
        if question.pattern is None:
            return Trial(None, answers)
        matches = await asyncio.to_thread(_count_matches, question.pattern, answers)
        return Trial(matches / len(answers), answers)


def states_of(scores: Sequence[float | None], least: float) -> list[State | None]:
    """A version is good if its score is nearer to that of the good end (the first) than to that of the bad one (the
    last).

    Raises: InvalidInputError if the ends' scores do not differ by more than `least`.
    """
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return [None] * len(scores)
    good, bad = known[0], known[-1]
    if abs(good - bad) <= least:
        raise InvalidInputError(
            f"the good and the bad version do the same: their scores are {good:.3f} and {bad:.3f}; choose other ends, "
            "or expect something that distinguishes them"
        )
    return [State.GOOD if abs(score - good) < abs(score - bad) else State.BAD for score in known]


def flips_of(steps: Sequence[Step], parents: Mapping[str, Sequence[str]]) -> list[Step]:
    """The steps whose state differs from that of what they continue: of their first parent among the steps."""
    states = {step.version.id: step.state for step in steps}
    flips = []
    for step in steps[1:]:
        before = next((each for each in parents[step.version.id] if each in states), steps[0].version.id)
        if step.state != states[before]:
            flips.append(step)
    return flips


def _count_matches(pattern: str, answers: Sequence[str]) -> int:
    """Raises: InvalidInputError if the pattern is none, or the search takes too much time or memory."""
    return sum(count_matches([pattern], answers, library="regex", method="search", cpu_seconds=PATTERN_CPU_SECONDS))


def _choose(catalog: Catalog, user: str, repo: str, question: Question) -> tuple[Pair, Lineage]:
    """The two ends, and the versions between them, both included."""
    _check(question)
    history = read_history(catalog, user, repo)
    good, bad = history.version(question.good), history.version(question.bad)
    if bad.checkpoint is None:
        raise InvalidInputError("the base model can't be the bad end: it came from no version")
    between = _between(history, good, bad)
    path = lineage(history, between, len(between))
    if len(path.versions) > MOST_VERSIONS:
        raise InvalidInputError(
            f"{len(path.versions)} versions are between the ends, at most {MOST_VERSIONS} are asked: choose nearer ends"
        )
    return Pair(user, repo, good, bad), path


def _between(history: RepoHistory, good: Version, bad: Version) -> set[str]:
    parents = history.view.parents
    ancestors = graph.ancestors(parents, [bad.id])
    if good.id == BASE:
        return ancestors
    if good.id == bad.id or good.id not in ancestors:
        problem = "is the same version as" if good.id == bad.id else "is no ancestor of"
        raise InvalidInputError(
            f"the good version {good.short_id} {problem} the bad one {bad.short_id}: the good end must be what the bad "
            "one came from, or 'base'"
        )
    return {commit for commit in ancestors if graph.is_ancestor(parents, good.id, commit)}


def _check(question: Question) -> None:
    """Raises: ConfigError; InvalidInputError."""
    probes.check([question.conversation])
    if question.expect is not None and question.pattern is not None:
        raise InvalidInputError("expect a text or a pattern, not both")
    if not 1 <= question.samples <= MOST_SAMPLES:
        raise ConfigError(f"samples must be 1 to {MOST_SAMPLES}, got {question.samples}")
    for what, text in (("expected text", question.expect), ("pattern", question.pattern)):
        if text is not None and not 1 <= len(text) <= MOST_CHARACTERS:
            raise ConfigError(f"the {what} must have 1 to {MOST_CHARACTERS} characters, it has {len(text)}")
