"""One request at a time, whoever compares."""

import asyncio

import pytest

from baker.comparison.scorer import ANSWER_TOKENS, Scorer
from baker.errors import InvalidInputError
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio


async def test_all_comparisons_together_have_one_request_in_the_engine() -> None:
    engine = FakeEngine()
    scorer = Scorer(engine, 8)
    await asyncio.gather(*(scorer.greedy([11 + number], None, top_logprobs=3) for number in range(20)))
    assert engine.most_running == 1
    assert [request.context_ids for request in engine.requests] == [[11 + number] for number in range(20)], "in order"
    assert {(request.temperature, request.max_tokens, request.top_logprobs) for request in engine.requests} == {
        (0.0, ANSWER_TOKENS, 3)
    }


async def test_a_client_that_leaves_gives_its_turn_back() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    scorer = Scorer(engine, 8)
    first, second = (asyncio.ensure_future(scorer.sampled([20], None, seed)) for seed in range(2))
    await engine.asked.wait()
    first.cancel()
    await asyncio.wait({first})
    engine.gate.set()
    assert (await second).text
    assert [(request.seed, request.temperature) for request in engine.requests] == [(1, 1.0)]


async def test_a_conversation_that_the_template_refuses_is_quoted() -> None:
    with pytest.raises(InvalidInputError, match="question 'UNRENDERABLE': the chat template"):
        await Scorer(FakeEngine(), 8).context([{"role": "user", "content": "UNRENDERABLE"}])
