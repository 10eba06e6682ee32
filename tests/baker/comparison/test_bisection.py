"""Every version between two ends is asked, and every flip is named."""

from typing import Any

import numpy as np
import pytest

from baker.comparison.bisection import Bisection, Question, State, Step, flips_of, states_of
from baker.comparison.probes import as_conversations
from baker.comparison.versions import BASE, Version
from baker.errors import ConfigError, InvalidInputError
from baker.repos import bakes
from tests.baker.comparison.story import Story

pytestmark = pytest.mark.anyio


async def bisect(story: Story, good: str, bad: str, **fields: Any) -> Bisection:
    question = Question(good, bad, as_conversations(["Who?"])[0], **fields)
    reports: list[tuple[int, int]] = []
    result = await story.comparisons.bisections.bisect(
        "admin", "repo", question, lambda *report: reports.append(report)
    )
    total = len(result.steps) * question.samples
    assert reports in ([(0, total)], [(done, total) for done in range(total + 1)]), "stored, or one request at a time"
    return result


def names(story: Story, versions: list[Version]) -> list[str]:
    by_id = {story.id_of(name): name for name in story.versions} | {BASE: "base"}
    return [by_id[version.id] for version in versions]


def states(story: Story, result: Bisection) -> dict[str, State | None]:
    steps = names(story, [step.version for step in result.steps])
    return dict(zip(steps, (step.state for step in result.steps), strict=True))


async def test_an_expected_text_is_scored_by_its_log_probability(story: Story) -> None:
    result = await bisect(story, "base", "json", expect="it is fine")
    assert states(story, result) == {"base": "good", "tone": "good", "pirate": "good", "json": "bad"}
    assert [step.score for step in result.steps] == [
        pytest.approx(
            np.mean([np.log(0.9 if answer[at] == text else 0.1 / 27) for at, text in enumerate("it is fine")])
        )
        for answer in ("it is fine", "it is fine sir", "ar is fine sir", "ar is json")
    ]
    assert names(story, result.flips) == ["json"]
    assert result.first_bad is not None and result.first_bad.id == story.id_of("json")
    assert result.steps[0].answers == []


async def test_a_pattern_is_searched_in_the_greedy_answers(story: Story) -> None:
    result = await bisect(story, "tone", "json", pattern="^it")
    assert states(story, result) == {"tone": "good", "pirate": "bad", "json": "bad"}
    assert [step.score for step in result.steps] == [1.0, 0.0, 0.0]
    assert [step.answers for step in result.steps] == [["it is fine sir"], ["ar is fine sir"], ["ar is json"]]
    assert names(story, result.flips) == ["pirate"]


async def test_what_is_expected_may_also_be_what_the_bad_one_says(story: Story) -> None:
    assert states(story, await bisect(story, "base", "json", pattern="json")) == {
        "base": "good",
        "tone": "good",
        "pirate": "good",
        "json": "bad",
    }


async def test_every_flip_is_named_and_the_last_one_to_bad_is_to_blame(story: Story) -> None:
    """The base model says no `sir`, tone and pirate do, json does not, and its child does again."""
    story.engine.answers["back"] = "yes sir"
    await story.grow("back", "json")
    result = await bisect(story, "base", "back", pattern="sir")
    assert states(story, result) == {"base": "good", "tone": "bad", "pirate": "bad", "json": "good", "back": "bad"}
    assert names(story, result.flips) == ["tone", "json", "back"]
    assert result.first_bad is not None and result.first_bad.id == story.id_of("back")


async def test_without_an_expectation_the_client_judges_the_answers(story: Story) -> None:
    result = await bisect(story, "tone", "json", samples=3)
    assert [step.answers for step in result.steps] == [
        [f"{answer} {letter}" for letter in "abc"] for answer in ("it is fine sir", "ar is fine sir", "ar is json")
    ], "drawn with the seeds 0, 1 and 2"
    assert {step.state for step in result.steps} == {step.score for step in result.steps} == {None}
    assert (result.flips, result.first_bad) == ([], None)
    story.engine.calls.clear()
    assert await bisect(story, "tone", "json", samples=3) == result
    assert story.engine.calls == []


async def test_a_share_of_several_answers_is_nearer_to_one_end(story: Story) -> None:
    result = await bisect(story, "tone", "json", pattern="[ab]$|fine", samples=4)
    assert [step.score for step in result.steps] == [1.0, 1.0, 0.5]
    assert states(story, result) == {"tone": "good", "pirate": "good", "json": "bad"}


async def test_versions_without_weights_are_skipped_and_named(story: Story) -> None:
    await story.catalog(bakes.delete, "admin", "repo", "pirate")
    result = await bisect(story, "base", "json", pattern="^it")
    assert states(story, result) == {"base": "good", "tone": "good", "json": "bad"}
    assert names(story, result.flips) == ["json"]
    assert story.id_of("pirate")[:12] in result.warnings[0]


@pytest.mark.parametrize(
    ("ends", "fields", "error", "message"),
    [
        (("polite", "json"), {"pattern": "x"}, InvalidInputError, "is no ancestor of"),
        (("json", "json"), {"pattern": "x"}, InvalidInputError, "is the same version as"),
        (("json", "tone"), {"pattern": "x"}, InvalidInputError, "is no ancestor of"),
        (("tone", "base"), {"pattern": "x"}, InvalidInputError, "came from no version"),
        (("base", "tone"), {"pattern": "it"}, InvalidInputError, r"do the same: their scores are 1\.000 and 1\.000"),
        (("base", "tone"), {"expect": "it is"}, InvalidInputError, "do the same"),
        (("base", "tone"), {"expect": "x", "pattern": "x"}, InvalidInputError, "not both"),
        (("base", "tone"), {"pattern": "("}, InvalidInputError, "not a regular expression: missing"),
        (("base", "tone"), {"pattern": "(" * 1000}, InvalidInputError, "not a regular expression: .*recursion"),
        (("base", "tone"), {"pattern": "(?:(?:x{999}){999}){999}"}, InvalidInputError, "too much memory"),
        (("base", "tone"), {"expect": ""}, ConfigError, "1 to 1000 characters"),
        (("base", "tone"), {"samples": 17}, ConfigError, "samples must be 1 to 16, got 17"),
    ],
)
async def test_what_can_not_be_bisected_is_refused(
    story: Story, ends: tuple[str, str], fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await bisect(story, *ends, **fields)


async def test_a_pattern_of_exponential_time_is_given_up(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baker.comparison.bisection.PATTERN_CPU_SECONDS", 1)
    story.engine.answers = dict.fromkeys(story.engine.answers, "a" * 60 + "cb")
    with pytest.raises(InvalidInputError, match="too much time"):
        await bisect(story, "base", "tone", pattern=r"^(a|aa)+b")


async def test_more_versions_than_the_limit_are_refused(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baker.comparison.bisection.MOST_VERSIONS", 2)
    with pytest.raises(InvalidInputError, match="3 versions are between the ends, at most 2"):
        await bisect(story, "base", "json", pattern="it")
    assert len((await bisect(story, "pirate", "json", pattern="fine")).steps) == 2


def test_a_flip_is_seen_against_the_first_parent() -> None:
    versions = {name: Version(name, None, None) for name in ("good", "left", "right", "merge")}
    parents = {"left": ["good"], "right": ["good"], "merge": ["right", "left"]}
    judged = {"good": State.GOOD, "left": State.GOOD, "right": State.BAD, "merge": State.BAD}
    steps = [Step(versions[name], 0.0, state, []) for name, state in judged.items()]
    assert [step.version.id for step in flips_of(steps, parents)] == ["right"]


def test_a_score_in_the_middle_is_not_good() -> None:
    assert states_of([0.0, -0.9, -1.0, -1.1, -2.0], 0.1) == ["good", "good", "bad", "bad", "bad"]
