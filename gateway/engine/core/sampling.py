"""Converts between our values and vLLM's: SampleRequest -> SamplingParams, RequestOutput -> Sample. No effects.

Imports vLLM, so it is imported only once the engine is needed.
"""

from typing import Any

import numpy as np
import pydantic
from numpy.typing import NDArray
from vllm import RequestOutput, SamplingParams
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMClientError
from vllm.logprobs import FlatLogprobs
from vllm.sampling_params import RequestOutputKind

from baker.errors import EngineError, InvalidInputError
from baker.types import Distribution, Sample, SampleRequest, StopReason
from gateway.engine.core import canary
from gateway.engine.core.mistakes import mistake

EXTRA_SETTINGS = frozenset(
    {
        "allowed_token_ids",
        "bad_words",
        "frequency_penalty",
        "ignore_eos",
        "include_stop_str_in_output",
        "logit_bias",
        "min_p",
        "min_tokens",
        "presence_penalty",
        "repetition_detection",
        "repetition_penalty",
        "response_format",
        "seed",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "structured_outputs",
        "thinking_token_budget",
        "top_k",
        "top_p",
        "user",
    }
)
"""Keys that SampleRequest.extra may have: the settings of a chat request that act while tokens are drawn. Others act on
the prompt (`chat_template_kwargs`) or on the reply (`stream`), neither of which exists here."""


def sampling_params(
    request: SampleRequest, *, window: int, max_logprobs: int, defaults: dict[str, Any], streams: bool = False
) -> SamplingParams:
    """vLLM's parameters for `request`.

    Args:
        window: length of the context window in tokens.
        defaults: the model's generation_config, which serving uses for settings that a client omits.
        streams: whether each output holds the text so far, instead of one output at the end.
    Raises: InvalidInputError naming the field.
    """
    room = window - len(request.context_ids)
    if room < 1:
        raise InvalidInputError(
            f"the context has {len(request.context_ids)} tokens, and the model's window of {window} must hold it and "
            "at least one token of answer: shorten the prompt or the question"
        )
    if request.top_logprobs > max_logprobs:
        raise InvalidInputError(
            f"top_logprobs is {request.top_logprobs}, and this engine returns at most {max_logprobs} (max_logprobs)"
        )
    chat = _chat_request(request)
    try:
        params = chat.to_sampling_params(min(request.max_tokens, room), defaults)
    except (VLLMClientError, ValueError, TypeError) as error:
        raise refusal(error, request.extra) from error
    if params.n != 1:
        raise InvalidInputError(f"n is {params.n}, and one request returns one answer: send more requests")
    params.output_kind = RequestOutputKind.CUMULATIVE if streams else RequestOutputKind.FINAL_ONLY
    params.logprobs = request.top_logprobs or None
    params.flat_logprobs = True
    # Turning 64 candidates a token into text is the front end's largest cost; only stop strings need text.
    params.detokenize = streams or bool(params.stop)
    return params


def scoring_params(top_logprobs: int) -> SamplingParams:
    """Parameters that return the prompt's log-probabilities. One token is generated, since vLLM requires it."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=top_logprobs,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def canary_params() -> SamplingParams:
    """Parameters that return the log-probabilities of a text and of its likeliest continuation."""
    params = scoring_params(0)
    params.max_tokens = canary.NEW_TOKENS
    params.ignore_eos = True
    params.logprobs = 0
    return params


def canary_answer(output: RequestOutput) -> canary.Answer:
    """The canary's answer in the output of a request with `canary_params`."""
    answer = output.outputs[0]
    ids, flat = list(answer.token_ids), answer.logprobs
    assert isinstance(flat, FlatLogprobs)
    return canary.Answer(
        text_logprobs=prompt_scores(output, 1),
        next_ids=ids,
        next_logprobs=[flat.logprobs[flat.start_indices[position]] for position in range(len(ids))],
    )


def _chat_request(request: SampleRequest) -> ChatCompletionRequest:
    extra = dict(request.extra)
    nested = extra.pop("extra_body", None)
    if isinstance(nested, dict):
        extra = {**nested, **extra}
    for name in extra:
        if name not in EXTRA_SETTINGS:
            raise InvalidInputError(f"{name!r} is no sampling setting; allowed are {', '.join(sorted(EXTRA_SETTINGS))}")
    fields: dict[str, Any] = {**extra, "messages": [], "temperature": request.temperature}
    if request.seed is not None:
        fields["seed"] = request.seed
    try:
        return ChatCompletionRequest.model_validate(fields)
    except (pydantic.ValidationError, VLLMClientError) as error:
        raise refusal(error, fields) from error


def refusal(error: Exception, fields: Any = None) -> InvalidInputError:
    """vLLM's error about a request as ours, with the field's name in the message."""
    field, message = complaint(error, fields)
    return InvalidInputError(message if field is None or field in message else f"{field}: {message}")


def complaint(error: Exception, fields: Any) -> tuple[str | None, str]:
    """The field that `error` is about, or None if it names none, and its message.

    Args:
        fields: of the request.
    """
    if isinstance(error, pydantic.ValidationError):
        cause = error.errors(include_url=False)[0].get("ctx", {}).get("error")
        return complaint(cause, fields) if isinstance(cause, VLLMClientError) else mistake(error, fields)
    message = str(error.args[0]) if error.args else str(error)
    return getattr(error, "parameter", None), message


def sample_of(output: RequestOutput, top_logprobs: int, text: str | None) -> Sample:
    """The sample in the output of a finished request.

    Args:
        text: the response as text, if the engine was not asked for it.
    Raises: EngineError if the engine ended the request on its own.
    """
    answer = output.outputs[0]
    response_ids = list(answer.token_ids)
    top_ids, top_values = top_tokens(answer.logprobs, len(response_ids), top_logprobs)
    return Sample(
        response_ids=response_ids,
        text=answer.text if text is None else text,
        stop_reason=stop_reason(answer.finish_reason),
        top_ids_TK=top_ids,
        top_logprobs_TK=top_values,
    )


def stop_reason(finish_reason: str | None) -> StopReason:
    match finish_reason:
        case "stop":
            return StopReason.STOP
        case "length" | "repetition":
            return StopReason.LENGTH
    raise EngineError(f"the engine ended the request ({finish_reason}): try again")


def top_tokens(flat: Any, positions: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The likeliest ids and their log-probabilities, likeliest first; both of shape (positions, width).

    vLLM gives one more a position: the sampled token, then the likeliest (with the sampled one again if it is one).
    """
    if width == 0:
        return np.zeros((positions, 0), np.int32), np.zeros((positions, 0), np.float32)
    assert isinstance(flat, FlatLogprobs)
    ids = np.array(flat.token_ids, np.int32).reshape(positions, width + 1)
    logprobs = np.array(flat.logprobs, np.float32).reshape(positions, width + 1)
    return ids[:, 1:].copy(), logprobs[:, 1:].copy()


def prompt_distribution(output: RequestOutput, start: int, width: int) -> Distribution:
    """The model's likeliest tokens at each of the prompt's positions from `start` on."""
    flat = output.prompt_logprobs
    assert isinstance(flat, FlatLogprobs) and output.prompt_token_ids is not None
    positions = len(output.prompt_token_ids) - start
    return Distribution(*top_tokens(flat[start:], positions, width))


def prompt_scores(output: RequestOutput, start: int) -> list[float]:
    """Log-probabilities of the prompt's tokens from position `start` on, in nats."""
    flat = output.prompt_logprobs
    assert isinstance(flat, FlatLogprobs) and output.prompt_token_ids is not None
    # At each position the prompt's own token comes first; the first position has none.
    return [flat.logprobs[flat.start_indices[position]] for position in range(start, len(output.prompt_token_ids))]
