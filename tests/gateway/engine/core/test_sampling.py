"""SampleRequest -> SamplingParams and RequestOutput -> Sample."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from baker.errors import EngineError, InvalidInputError
from baker.types import SampleRequest, StopReason
from gateway.engine import Engine
from tests.gateway.engines import (
    greedy,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"extra": {"top_p": 3.0}}, "top_p"),
        ({"extra": {"top_p": "high"}}, "top_p"),
        ({"extra": {"frequency_penalty": 9}}, "frequency_penalty"),
        ({"extra": {"stop": [1]}}, "stop"),
        ({"extra": {"logit_bias": {"99999999": 1.0}}}, "logit_bias"),
        ({"extra": {"n": 2}}, "'n'"),
        ({"extra": {"chat_template_kwargs": {}}}, "chat_template_kwargs"),
        ({"extra": {"extra_body": {"nonsense": 1}}}, "nonsense"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_logprobs": 65}, "max_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_a_setting_that_is_refused_is_named(engine: Engine, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        await greedy(engine, **settings)
    assert engine.is_ready


def params_of(request: SampleRequest, **defaults: Any) -> Any:
    from gateway.engine.core.sampling import sampling_params

    return sampling_params(request, window=100, max_logprobs=64, defaults=defaults)


def flat(rows: list[dict[int, float] | None]) -> Any:
    """vLLM's FlatLogprobs with these tokens and log-probabilities at each position."""
    from vllm.logprobs import FlatLogprobs, Logprob

    logprobs = FlatLogprobs()
    for row in rows:
        logprobs.append(None if row is None else {token: Logprob(value) for token, value in row.items()})
    return logprobs


def test_a_request_without_settings_uses_the_models_defaults(engine: Engine) -> None:
    request = SampleRequest([1] * 90, max_tokens=50, temperature=0.5, top_logprobs=3, extra={"min_p": 0.1})
    params = params_of(request, top_k=7, temperature=9.0, min_p=0.5)
    assert (params.temperature, params.top_k, params.min_p) == (0.5, 7, 0.1)
    assert (params.logprobs, params.flat_logprobs, params.n) == (3, True, 1)
    assert params.max_tokens == 10, "what is left of the window"
    assert params_of(SampleRequest([1], max_tokens=5)).logprobs is None


def test_text_is_made_only_for_stop_strings(engine: Engine) -> None:
    assert not params_of(SampleRequest([1])).detokenize
    assert params_of(SampleRequest([1], extra={"stop": ["a"]})).detokenize


def test_a_nested_extra_body_is_merged_below_the_other_settings(engine: Engine) -> None:
    extra = {"extra_body": {"top_k": 3, "min_p": 0.1}, "min_p": 0.2}
    params = params_of(SampleRequest([1], seed=5, extra=extra))
    assert (params.top_k, params.min_p, params.seed) == (3, 0.2, 5)


def test_a_message_about_a_field_names_it_once_and_without_pydantics_own_path(engine: Engine) -> None:
    import pydantic
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.exceptions import VLLMValidationError

    from gateway.engine.core.sampling import complaint, refusal

    fields = {"messages": [], "response_format": {"type": "nonsense"}}
    with pytest.raises(pydantic.ValidationError) as refused:
        ChatCompletionRequest.model_validate(fields)
    field, message = complaint(refused.value, fields)
    assert field == "response_format" and "function-" not in message
    assert str(refusal(refused.value, fields)) == message and message.count("response_format") == 1
    high = VLLMValidationError("too high", parameter="top_p", value=3)
    assert complaint(high, {}) == ("top_p", "too high") and str(refusal(high)) == "top_p: too high"
    assert str(refusal(ValueError("no"))) == "no"


def test_the_sampled_token_is_dropped_from_the_likeliest(engine: Engine) -> None:
    """vLLM puts it first, and again if it is one of the likeliest; a dict holds it once, so these rows differ."""
    from gateway.engine.core.sampling import top_tokens

    ids, logprobs = top_tokens(flat([{9: -5.0, 1: -0.1, 2: -3.0}, {8: -4.0, 3: -0.2, 4: -2.5}]), 2, 2)
    assert ids.tolist() == [[1, 2], [3, 4]]
    assert logprobs == pytest.approx(np.array([[-0.1, -3.0], [-0.2, -2.5]]))
    ids, logprobs = top_tokens(None, 5, 0)
    assert ids.shape == logprobs.shape == (5, 0)


def test_a_prompts_own_tokens_are_scored_from_a_position_on(engine: Engine) -> None:
    from gateway.engine.core.sampling import prompt_distribution, prompt_scores

    output: Any = SimpleNamespace(
        prompt_logprobs=flat([None, {5: -1.0, 7: -0.5}, {6: -2.0, 8: -0.25}]), prompt_token_ids=[4, 5, 6]
    )
    assert prompt_scores(output, 1) == [-1.0, -2.0]
    assert prompt_scores(output, 2) == [-2.0]
    assert prompt_distribution(output, 2, 1).top_ids_TK.tolist() == [[8]]


def test_the_engines_reason_for_an_end_is_ours_or_an_error(engine: Engine) -> None:
    from gateway.engine.core.sampling import stop_reason

    assert stop_reason("stop") is StopReason.STOP
    assert stop_reason("length") is stop_reason("repetition") is StopReason.LENGTH
    for other in ("abort", "error", None):
        with pytest.raises(EngineError, match="try again"):
            stop_reason(other)
