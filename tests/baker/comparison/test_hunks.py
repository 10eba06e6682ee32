"""The questions that changed most, and where answers part."""

import pytest

from baker.comparison.hunks import hunk, most_changed, parting
from baker.comparison.probe_set import Row, RowKind
from baker.comparison.scorer import Scorer
from baker.comparison.scores import RowScore
from baker.comparison.versions import Version
from tests.baker.comparison.scripted import ScriptedEngine, kl_per_position
from tests.baker.comparison.story import Story
from tests.fakes import encode

pytestmark = pytest.mark.anyio


def row(question: str, answer: str = "x") -> Row:
    return Row(RowKind.TARGET, "talk", question, encode(question), encode(answer))


def test_rows_are_ordered_by_kl_per_token_and_each_question_comes_once() -> None:
    rows = [row("a"), row("b", "y"), row("b", "z"), row("c")]
    scores = [RowScore(each.key, kl, 0, 10) for each, kl in zip(rows, (1.0, 5.0, 9.0, 3.0), strict=True)]
    assert [(each.question, score.kl) for each, score in most_changed(rows, scores, 2)] == [("b", 9.0), ("c", 3.0)]
    assert len(most_changed(rows, scores, 99)) == 3
    assert most_changed(rows, scores, 0) == []


@pytest.mark.parametrize("kind", [RowKind.PROBE, RowKind.QUESTION])
def test_questions_that_the_client_chose_go_first(kind: RowKind) -> None:
    rows = [
        Row(RowKind.NEUTRAL, "neutral", "n", encode("n"), encode("x")),
        row("a"),
        *[Row(kind, "own", question, encode(question), None) for question in "bc"],
    ]
    scores = [RowScore(each.key, kl, 0, 10) for each, kl in zip(rows, (9.0, 8.0, 1.0, 2.0), strict=True)]
    assert [each.question for each, _ in most_changed(rows, scores, 9)] == ["c", "b", "n", "a"]


async def test_answers_part_at_their_first_different_token(story: Story) -> None:
    a, b = (Version(story.id_of(name), None, story.versions[name]) for name in ("pirate", "json"))
    steps: list[None] = []
    scorer = Scorer(story.engine, 28)
    result = await hunk(row("Who?"), RowScore("k", 6.0, 0, 3), a, b, scorer, lambda: steps.append(None))
    assert (result.question, result.kl, len(steps)) == ("Who?", 2.0, 2)
    assert (result.answer_a, result.answer_b) == ("ar is fine sir", "ar is json")
    assert result.parting is not None
    assert (result.parting.token, result.parting.shared) == (6, "ar is ")
    assert (result.parting.a, result.parting.b) == ("f", "j")
    assert result.parting.kl == pytest.approx(kl_per_position("ar is fine sir", "ar is json")[6], rel=1e-5)


@pytest.mark.parametrize(("a", "b", "token", "ends"), [("same", "same", None, ()), ("so", "so far", 2, ("<end>", " "))])
async def test_equal_answers_do_not_part_and_an_end_is_a_token(
    a: str, b: str, token: int | None, ends: tuple[str, ...]
) -> None:
    first, second = [
        await Scorer(ScriptedEngine({None: text}), 28).greedy([1], None, top_logprobs=28) for text in (a, b)
    ]
    place = parting(first, second, Scorer(ScriptedEngine({None: a}), 28))
    assert (place and place.token) == token
    assert place is None or (place.a, place.b) == ends
