"""How much a prompt changes the beginning of an answer."""

import numpy as np
import pytest

from baker.errors import StimError
from baker.questions.effect import MEASURED_TOKENS, PromptEffect, top_kl
from baker.types import Distribution, Prompt
from tests.fakes import FakeEngine

LOUD = Prompt(messages=[{"role": "system", "content": "Be loud"}])


def whole(probabilities: list[list[float]]) -> Distribution:
    """All tokens of a small vocabulary, likeliest first, for each position."""
    p_TV = np.array(probabilities)
    order_TV = np.argsort(-p_TV, axis=1)
    return Distribution(
        order_TV.astype(np.int32), np.log(np.take_along_axis(p_TV, order_TV, axis=1)).astype(np.float32)
    )


def cut(distribution: Distribution, count: int) -> Distribution:
    return Distribution(distribution.top_ids_TK[:, :count], distribution.top_logprobs_TK[:, :count])


def test_over_the_whole_vocabulary_it_is_the_kl() -> None:
    p, q = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], [[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]
    expected = sum(a * np.log(a / b) for ps, qs in zip(p, q, strict=True) for a, b in zip(ps, qs, strict=True)) / 2
    assert top_kl(whole(p), whole(q)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_with_the_likeliest_tokens_only_it_is_not_more(count: int) -> None:
    rng = np.random.default_rng(count)
    p, q = (rng.dirichlet(np.ones(8), size=5).tolist() for _ in range(2))
    kl = top_kl(whole(p), whole(q))
    assert top_kl(cut(whole(p), count), cut(whole(q), count)) <= kl + 1e-5
    assert top_kl(cut(whole(p), count), cut(whole(p), count)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.anyio
async def test_it_compares_the_two_prompts_on_the_beginning_of_the_teachers_answer() -> None:
    engine = FakeEngine()
    effects = await PromptEffect(engine, LOUD, Prompt()).of(["Who?", "Where are you?"])
    assert effects == [0.0, 0.0], "the fake engine predicts the same under each context"
    assert [(request.max_tokens, request.temperature) for request in engine.requests] == [(MEASURED_TOKENS, 0.0)] * 2
    for request, (student_ids, response_ids) in zip(engine.requests, engine.judged, strict=True):
        assert len(student_ids) < len(request.context_ids), "the student's context lacks the prompt"
        assert len(response_ids) <= MEASURED_TOKENS


@pytest.mark.anyio
async def test_a_prompt_that_the_template_refuses_is_an_error_of_the_stim() -> None:
    with pytest.raises(StimError, match=r"question 'UNRENDERABLE\?'.*template refuses"):
        await PromptEffect(FakeEngine(), LOUD, Prompt()).of(["UNRENDERABLE?"])
