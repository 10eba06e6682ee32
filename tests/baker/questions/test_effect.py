"""How much a prompt changes the beginning of an answer."""

import pytest

from baker.errors import StimError
from baker.questions.effect import MEASURED_TOKENS, PromptEffect
from baker.types import Prompt
from tests.fakes import FakeEngine

LOUD = Prompt(messages=[{"role": "system", "content": "Be loud"}])


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
