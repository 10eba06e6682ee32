"""Tokens belong to the version that raised them most."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.comparison.blame import LEAST_GAIN, Blame, Question, owners_of
from baker.comparison.probes import as_conversations
from baker.comparison.versions import BASE
from baker.errors import ConfigError, InvalidInputError, NotFoundError
from baker.repos import bakes
from tests.baker.comparison.story import Story

pytestmark = pytest.mark.anyio
SURE_GAIN = np.log(0.9 / (0.1 / 27))
"""From any other token of the scripted engine to the version's own."""


async def blame(story: Story, model: str, answer: str | None = None) -> Blame:
    question = Question(model, as_conversations(["Who?"])[0], answer)
    reports: list[tuple[int, int]] = []
    result = await story.comparisons.blames.blame("admin", "repo", question, lambda *report: reports.append(report))
    total = len(result.ancestors) + (answer is None)
    assert reports in ([(0, total)], [(done, total) for done in range(total + 1)]), "stored, or one request at a time"
    return result


def owners(story: Story, result: Blame) -> str:
    """A letter for each token: the first one of its owner's name, `.` for the base model."""
    names = {story.id_of(name): name[0] for name in ("tone", "pirate", "json")} | {BASE: "."}
    return "".join(names[token.commit] for token in result.tokens)


async def test_each_word_belongs_to_the_bake_that_brought_it(story: Story) -> None:
    """base `it is fine`, tone `it is fine sir`, pirate `ar is fine sir`, json `ar is json`."""
    result = await blame(story, "json")
    assert result.answer == "ar is json"
    assert "".join(token.text for token in result.tokens) == "ar is json<end>"
    # The base model ends at position 10 too, but tone and pirate did not: json brought that back.
    assert owners(story, result) == "pp....jjjjj"
    assert result.tokens[0].gain == pytest.approx(SURE_GAIN)
    assert result.tokens[2].gain == pytest.approx(0.0)
    assert result.tokens[0].logprob == pytest.approx(np.log(0.9))
    shares = {share.version.id: (share.tokens, share.gain) for share in result.ancestors}
    assert [*shares] == [story.id_of("json"), story.id_of("pirate"), story.id_of("tone"), BASE]
    assert shares[story.id_of("pirate")] == (2, pytest.approx(2 * SURE_GAIN))
    assert shares[BASE] == (4, 0.0)
    assert result.warnings == []


async def test_a_given_answer_is_blamed_whatever_the_model_would_say(story: Story) -> None:
    result = await blame(story, "pirate", "it is fine sir")
    assert owners(story, result) == ".........." + "tttt"
    assert result.tokens[0].logprob < -5, "pirate would not say it"
    assert ("sample", "pirate") not in story.engine.calls


async def test_a_second_call_asks_the_engine_nothing(story: Story) -> None:
    first = await blame(story, "json")
    story.engine.calls.clear()
    assert await blame(story, "json") == first
    assert story.engine.calls == []


async def test_what_a_deleted_bake_brought_belongs_to_the_one_that_continues_it(story: Story) -> None:
    await story.catalog(bakes.delete, "admin", "repo", "pirate")
    result = await blame(story, "json")
    assert owners(story, result) == "jj....jjjjj"
    assert story.id_of("pirate")[:12] in result.warnings[0]


@pytest.mark.parametrize(
    ("model", "answer", "error", "message"),
    [
        ("base", None, InvalidInputError, "no ancestors"),
        ("jason", None, NotFoundError, "did you mean 'json'"),
        ("json", "", ConfigError, "empty"),
        ("json", "x" * 8001, ConfigError, "8001 characters"),
    ],
)
async def test_what_can_not_be_blamed_is_refused(
    story: Story, model: str, answer: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await blame(story, model, answer)


@given(st.integers(0, 2**32 - 1))
def test_a_merge_owns_only_what_exceeds_both_parents(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ["merge", "left", "right", BASE]
    parents = {"merge": ["left", "right"], "left": [BASE], "right": [BASE]}
    logprobs: dict[str, Any] = {name: -rng.exponential(2.0, size=6) for name in names}
    owned, gains = owners_of(logprobs, parents, names[:3])
    for at in range(6):
        of = {name: logprobs[name][at] for name in names}
        raised = {
            "merge": of["merge"] - max(of["left"], of["right"]),
            "left": of["left"] - of[BASE],
            "right": of["right"] - of[BASE],
        }
        best = max(raised, key=lambda name: raised[name])
        assert owned[at] == (best if raised[best] >= LEAST_GAIN else BASE)
        assert gains[at] == pytest.approx(raised[best])
