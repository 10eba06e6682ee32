"""Scores of rows on an engine with known distributions."""

import numpy as np
import pytest

from baker.comparison.probe_set import Row, RowKind
from baker.comparison.scorer import Scorer
from baker.comparison.scores import add_changes, requests_for, score
from baker.comparison.versions import BASE_VERSION, Version
from baker.errors import InvalidInputError
from baker.types import Distribution
from tests.baker.comparison.scripted import VOCABULARY, ScriptedEngine, kl_per_position
from tests.baker.comparison.story import Story
from tests.fakes import encode

pytestmark = pytest.mark.anyio
FORCED = Row(RowKind.TARGET, "talk", "Who?", encode("Who?"), encode("it is fine sir"))
OPEN = Row(RowKind.QUESTION, "questions", "Why?", encode("Why?"))


def version(story: Story, name: str) -> Version:
    return Version(story.id_of(name), None, story.versions[name])


async def test_kl_agreement_and_changes_of_the_whole_vocabulary(story: Story) -> None:
    steps: list[None] = []
    scorer = Scorer(story.engine, len(VOCABULARY))
    scores = await score([FORCED], version(story, "tone"), version(story, "pirate"), scorer, lambda: steps.append(None))
    (row,) = scores.rows
    assert row.kl == pytest.approx(sum(kl_per_position("it is fine sir", "ar is fine sir")), rel=1e-5)
    assert (row.tokens, row.agreed) == (14, 12), "they differ in the first two letters"
    gained = {token: change for token, change in scores.changes.items() if abs(change) > 0.5}
    i, t, a, r = (str(token) for token in encode("itar"))
    sure = 0.9 - 0.1 / (len(VOCABULARY) - 1)
    assert gained == {a: pytest.approx(sure), r: pytest.approx(sure), i: pytest.approx(-sure), t: pytest.approx(-sure)}
    assert len(steps) == requests_for([FORCED], version(story, "tone"), version(story, "pirate")) == 2


async def test_an_open_question_is_answered_by_the_first_version(story: Story) -> None:
    scorer, a, b = Scorer(story.engine, 28), version(story, "json"), BASE_VERSION
    scores = await score([OPEN, FORCED], a, b, scorer, lambda: None)
    assert [row.tokens for row in scores.rows] == [len("ar is json") + 1, 14]
    assert story.engine.calls == [("sample", "json"), *[("distribution", "json")] * 2, *[("distribution", None)] * 2], (
        "each version has its turn once"
    )
    assert requests_for([OPEN, FORCED], a, b) == len(story.engine.calls)


async def test_a_version_is_equal_to_itself_at_half_the_cost(story: Story) -> None:
    a = version(story, "pirate")
    scores = await score([FORCED], a, a, Scorer(story.engine, 28), lambda: None)
    assert (scores.rows[0].kl, scores.rows[0].agreed, scores.changes) == (0.0, 14, {})
    assert len(story.engine.calls) == requests_for([FORCED], a, a) == 1


async def test_the_question_that_does_not_fit_is_named(story: Story) -> None:
    class Full(ScriptedEngine):
        async def distribution(self, *arguments: object, **named: object) -> Distribution:
            raise InvalidInputError("the window is full")

    scorer = Scorer(Full({None: "x"}), 28)
    with pytest.raises(InvalidInputError, match=r"question 'Who\?': the window is full"):
        await score([FORCED], BASE_VERSION, BASE_VERSION, scorer, lambda: None)


def test_changes_of_cut_lists_are_never_overstated() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p, q = (np.sort(rng.dirichlet(np.full(12, 0.5)))[::-1] for _ in range(2))
        ids_p, ids_q = rng.permutation(12), rng.permutation(12)
        exact = {token: float(q[ids_q.tolist().index(token)] - p[ids_p.tolist().index(token)]) for token in range(12)}
        changes: dict[int, float] = {}
        add_changes(changes, cut(ids_p, p, 4), cut(ids_q, q, 4))
        for token, change in changes.items():
            assert abs(change) <= abs(exact[token]) + 1e-6
            assert change * exact[token] >= 0


def cut(ids: np.ndarray, p: np.ndarray, width: int) -> Distribution:
    return Distribution(ids[None, :width].astype(np.int32), np.log(p[None, :width]).astype(np.float32))
