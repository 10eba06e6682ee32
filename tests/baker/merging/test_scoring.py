"""A version's predictions along rows, beside their own teachers."""

import numpy as np
import pytest

from baker.merging.rows import Row
from baker.merging.scoring import score
from tests.baker.comparison.scripted import VOCABULARY, ScriptedEngine
from tests.fakes import encode

pytestmark = pytest.mark.anyio
TOP = len(VOCABULARY)


def row(engine: ScriptedEngine, question: str, answer: str) -> Row:
    ids = encode(answer)
    return Row(question, encode(question), ids, engine._top(None, len(ids), TOP))


async def test_a_version_that_copies_its_teacher_is_at_no_distance() -> None:
    engine = ScriptedEngine({None: "abc"})
    scores = (await score([row(engine, "q?", "abc"), row(engine, "r?", "ab")], None, engine, TOP)).rows
    assert [each.stimulus for each in scores] == ["q?", "r?"], "in the order of the rows"
    assert [each.tokens for each in scores] == [3, 2]
    assert [each.agreed for each in scores] == [3, 2]
    assert [each.kl for each in scores] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert scores[1].likeliest == encode("ab")


async def test_the_distance_is_summed_over_the_tokens() -> None:
    teacher, other = ScriptedEngine({None: "abc"}), ScriptedEngine({None: "axx"})
    (scored,) = (await score([row(teacher, "q?", "abc")], None, other, TOP)).rows
    p, q = (engine.probabilities(None, 3) for engine in (teacher, other))
    assert scored.kl == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-4)
    assert (scored.agreed, scored.likeliest) == (1, encode("axx"))
