"""Diffs of versions with known answers."""

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from baker.comparison import probes
from baker.comparison.diff import Diff, DiffRequest, Part
from baker.comparison.probe_set import RowKind
from baker.errors import ConfigError, EngineError, InvalidInputError, NotFoundError
from baker.trajectories.neutral import questions as neutral_questions
from tests.baker.comparison.scripted import kl_per_position
from tests.baker.comparison.story import Story

pytestmark = pytest.mark.anyio

EVERYTHING = frozenset(Part)
NEUTRAL = len(neutral_questions())
DRAWN = "it is fine x"
"""The base model's answers to the neutral questions, but for the last letter."""


async def diff(story: Story, a: str, b: str, *parts: Part, **fields: Any) -> Diff:
    reports: list[tuple[int, int]] = []
    request = DiffRequest(a, b, frozenset(parts or (Part.STAT,)), **fields)
    result = await story.comparisons.diffs.diff("admin", "repo", request, lambda *report: reports.append(report))
    if result.probe is not None:
        dones, totals = zip(*reports, strict=True)
        assert dones == tuple(sorted(set(dones))), "progress grows"
        assert (dones[0], dones[-1], {*totals}) == (0, totals[0], {totals[0]}), "and ends at its total"
    return result


def mean_kl(a: str, b: str, answer: str) -> float:
    kls = kl_per_position(a, b)
    return float(np.mean([kls[min(at, len(kls) - 1)] for at in range(len(answer) + 1)]))


async def test_versions_are_compared_on_the_rows_that_both_held_out_and_on_neutral_questions(story: Story) -> None:
    story.hold_out("tone", "talk", ["it is fine sir", "it is"])
    story.hold_out("pirate", "sea", ["ar is"])
    result = await diff(story, "tone", "pirate")
    assert (result.a.id, result.b.id) == (story.id_of("tone"), story.id_of("pirate"))
    assert result.stat is not None and result.probe is not None
    sea, talk, neutral = result.stat
    assert [(each.kind, each.name, each.rows) for each in result.stat] == [
        (RowKind.TARGET, "sea", 1),
        (RowKind.TARGET, "talk", 2),
        (RowKind.NEUTRAL, "neutral", NEUTRAL),
    ]
    assert sea.kl == pytest.approx(mean_kl("it is fine sir", "ar is fine sir", "ar is"), rel=1e-5)
    assert (sea.tokens, sea.agreement) == (6, pytest.approx(4 / 6))
    assert neutral.kl == pytest.approx(mean_kl("it is fine sir", "ar is fine sir", DRAWN), rel=1e-5)
    assert talk.kl_low is not None and talk.kl_high is not None and talk.kl_low <= talk.kl <= talk.kl_high
    assert (result.probe.name, result.probe.rows) == (None, NEUTRAL + 3)
    assert result.warnings == []


async def test_a_second_call_gives_the_same_and_asks_the_engine_nothing(story: Story) -> None:
    story.hold_out("tone", "talk", ["it is fine sir", "it is"])
    first = await diff(story, "tone", "json", Part.STAT, Part.TOKENS, Part.PATCH)
    story.engine.calls.clear()
    story.engine.answers = dict.fromkeys(story.engine.answers, "zzz")
    again = await diff(story, "tone", "json", Part.STAT, Part.TOKENS, Part.PATCH)
    assert again == first
    assert story.engine.calls == []
    fewer = await diff(story, "tone", "json", Part.PATCH, limit=1)
    assert first.patch is not None and fewer.patch == first.patch[:1]
    assert story.engine.calls == []


async def test_rows_that_changed_since_are_compared_anew(story: Story) -> None:
    await story.catalog(probes.put, "admin", "repo", "p", probes.as_conversations(["Who?"]))
    first = await diff(story, "tone", "json", probe="p")
    await story.catalog(probes.put, "admin", "repo", "p", probes.as_conversations(["Who?", "Why?"]))
    second = await diff(story, "tone", "json", probe="p")
    assert first.probe is not None and second.probe is not None
    assert first.probe.sha256 != second.probe.sha256
    assert [stat.rows for stat in second.stat or ()] == [2, NEUTRAL]


async def test_a_probe_or_questions_take_the_place_of_held_out_rows(story: Story) -> None:
    story.hold_out("tone", "talk", ["it is"])
    await story.catalog(probes.put, "admin", "repo", "p", probes.as_conversations(["Who?", "Why?"]))
    on_probe = await diff(story, "tone", "pirate", probe="p")
    on_questions = await diff(
        story, "tone", "pirate", conversations=probes.as_conversations(["Who?", "Why?"]), max_rows=1
    )
    assert [(each.kind, each.name, each.rows) for each in on_probe.stat or ()] == [
        (RowKind.PROBE, "p", 2),
        (RowKind.NEUTRAL, "neutral", NEUTRAL),
    ]
    own = (on_questions.stat or [])[0]
    assert (own.kind, own.name, own.rows) == (RowKind.QUESTION, "questions", 1)
    assert on_questions.warnings == ["compared on the first 1 of 2 conversations: max_rows"]
    assert on_probe.stat is not None
    assert on_probe.stat[0].kl == pytest.approx(
        mean_kl("it is fine sir", "ar is fine sir", "it is fine sir"), rel=1e-5
    ), "on the first version's own answers"


async def test_without_held_out_rows_only_the_neutral_questions_count_and_it_says_so(story: Story) -> None:
    result = await diff(story, "base", "json")
    assert [stat.name for stat in result.stat or ()] == ["neutral"]
    (warning,) = result.warnings
    assert "neither version has held-out rows here" in warning


async def test_if_the_base_model_can_not_answer_neutral_questions_the_rest_is_compared(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baker.trajectories.neutral.questions", lambda: ["UNRENDERABLE"])
    story.hold_out("tone", "talk", ["it is"])
    result = await diff(story, "base", "tone")
    assert [stat.name for stat in result.stat or ()] == ["talk"]
    assert "can't answer: " in result.warnings[0]
    with pytest.raises(InvalidInputError, match="nothing to compare the versions on"):
        await diff(story, "base", "json")


async def test_the_patch_shows_the_questions_that_changed_most(story: Story) -> None:
    story.hold_out("tone", "talk", ["it is fine sir", "it"])
    result = await diff(story, "tone", "pirate", Part.PATCH, limit=2)
    assert result.stat is result.tokens is None
    (most, _) = result.patch or ()
    assert most.question == "talk 1?", "of its three tokens, two changed"
    assert (most.answer_a, most.answer_b) == ("it is fine sir", "ar is fine sir")
    assert most.parting is not None and (most.parting.token, most.parting.a, most.parting.b) == (0, "i", "a")


async def test_the_tokens_that_became_likelier_over_all_rows(story: Story) -> None:
    result = await diff(story, "tone", "pirate", Part.TOKENS, conversations=probes.as_conversations(["Who?"]))
    tokens = result.tokens
    assert tokens is not None
    rows = NEUTRAL + 1
    assert [change.text for change in tokens.likelier[:2]] == ["r", "a"]
    assert sorted(change.text for change in tokens.less_likely[:2]) == ["i", "t"]
    assert tokens.likelier[0].change == pytest.approx(rows * (0.9 - 0.1 / 27), rel=1e-4)
    assert tokens.positions == NEUTRAL * len(f"{DRAWN}.") + len("it is fine sir.")


async def test_weights_and_recipe_need_no_engine(story: Story) -> None:
    for name, checkpoint in story.versions.items():
        checkpoint.path.mkdir(parents=True)
        b = np.full((3, 1), len(name), np.float32)
        tensors = {"base_model.model.up.lora_A.weight": np.eye(1, 4, dtype=np.float32)}
        save_file({**tensors, "base_model.model.up.lora_B.weight": b}, checkpoint.path / "adapter_model.safetensors")
        config = {"r": 1, "lora_alpha": 1, "target_modules": ["up"]}
        (checkpoint.path / "adapter_config.json").write_bytes(msgspec.json.encode(config))
    save_file({"up.weight": np.ones((3, 4), np.float32)}, story.home / "model.safetensors")
    story.engine.gate.clear()
    result = await diff(story, "tone", "pirate", Part.WEIGHTS, Part.RECIPE)
    assert (result.probe, result.stat, result.recipe) == (None, None, "")
    assert result.weights is not None
    assert result.weights.relative_norm == pytest.approx(2 * 3**0.5 / 12**0.5)
    assert result.weights.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"a": "tone@0.5"}, InvalidInputError, "strength"),
        ({"b": "tome"}, NotFoundError, "did you mean 'tone'"),
        ({"probe": "p"}, NotFoundError, "Probe 'p' not found"),
        ({"conversations": []}, ConfigError, "1 to 256"),
        ({"probe": "p", "conversations": [[]]}, InvalidInputError, "not both"),
        ({"conversations": probes.as_conversations(["UNRENDERABLE"])}, InvalidInputError, "question 'UNRENDERABLE'"),
    ],
)
async def test_what_can_not_be_compared_is_refused(
    story: Story, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await diff(story, **{"a": "tone", "b": "json", **fields})


async def test_a_cancelled_diff_keeps_what_was_complete(story: Story) -> None:
    story.hold_out("tone", "talk", ["it is"])
    await diff(story, "tone", "json")  # stores the base model's neutral answers
    asked = asyncio.ensure_future(diff(story, "tone", "pirate", Part.STAT, Part.PATCH))
    while ("sample", "tone") not in story.engine.calls:  # noqa: ASYNC110 - the engine's list
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait({asked})
    story.engine.calls.clear()
    await diff(story, "tone", "pirate")
    assert story.engine.calls == [], "the scores were complete"


async def test_if_the_engine_goes_away_nothing_partial_is_kept(story: Story) -> None:
    story.hold_out("tone", "talk", ["it is"])
    right = story.engine.distribution
    calls = 0

    async def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise EngineError("the engine is dead")
        return await right(*arguments)

    story.engine.distribution = dying  # type: ignore[method-assign]
    with pytest.raises(EngineError):
        await diff(story, "tone", "pirate")
    story.engine.distribution = right  # type: ignore[method-assign]
    result = await diff(story, "tone", "pirate")
    assert [stat.rows for stat in result.stat or ()] == [1, NEUTRAL]
