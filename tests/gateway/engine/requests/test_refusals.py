"""vLLM's errors -> ours. What clients read of them through real handlers: test_handlers.py."""

from types import SimpleNamespace
from typing import Any

import pytest

from baker.errors import BakeryError, EngineError
from gateway.engine import Engine
from gateway.engine.patches.death import GONE
from gateway.engine.requests import kinds
from gateway.engine.requests.refusals import INTERNAL, Refusals
from gateway.errors import EngineRefusedError, FieldRefusedError, InferenceError

pytestmark = pytest.mark.usefixtures("engine")
"""vLLM is imported as a started engine does it, whichever test comes first."""


def refusals_of(fields: dict[str, Any], *, is_dead: bool = False, kind: kinds.Kind = kinds.CHAT) -> Refusals:
    engine: Any = SimpleNamespace(is_dead=is_dead, max_model_len=512)
    return Refusals(engine, kind, fields)


def info(code: int, message: str = "why", param: str | None = None) -> SimpleNamespace:
    """vLLM's ErrorInfo."""
    return SimpleNamespace(code=code, message=message, param=param)


@pytest.mark.parametrize("code", [400, 404, 422])
def test_vllm_keeps_its_status_field_and_message(code: int) -> None:
    error = refusals_of({}).of_info(info(code, param="top_p"))
    assert isinstance(error, EngineRefusedError)
    assert (error.status, error.param, error.message) == (code, "top_p", "why")


@pytest.mark.parametrize(("kind", "field"), [(kinds.CHAT, "messages"), (kinds.RESPONSES, "input")])
def test_a_prompt_that_does_not_fit_is_about_the_field_that_holds_it(kind: kinds.Kind, field: str) -> None:
    error = refusals_of({}, kind=kind).of_info(info(400, param="input_tokens"))
    assert isinstance(error, EngineRefusedError) and (error.param, error.message) == (field, "why")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_length_that_the_client_did_not_set_is_no_fault_of_it(name: str) -> None:
    error = refusals_of({}).of_info(info(400, param="max_tokens"))
    assert isinstance(error, EngineRefusedError)
    assert error.param == "messages" and "window of 512 tokens" in error.message
    given = refusals_of({name: 600}).of_info(info(400, param="max_tokens"))
    assert isinstance(given, EngineRefusedError) and (given.param, given.message) == ("max_tokens", "why")


@pytest.mark.parametrize("code", [500, 501])
def test_a_failure_keeps_its_status_and_is_logged(code: int, caplog: pytest.LogCaptureFixture) -> None:
    error = refusals_of({}).of_info(info(code))
    assert isinstance(error, InferenceError) and (error.status, error.message) == (code, "why")
    assert "inference failed: why" in caplog.text


def test_a_failure_with_a_grammar_is_about_the_grammar(caplog: pytest.LogCaptureFixture) -> None:
    error = refusals_of({"structured_outputs": {"regex": "("}}).of_info(info(500))
    assert isinstance(error, FieldRefusedError) and not isinstance(error, EngineRefusedError)
    assert error.param == "structured_outputs" and not caplog.records


def test_a_part_of_a_message_is_about_the_field_that_holds_it() -> None:
    error = refusals_of({"messages": []}).of_info(info(400, "Missing 'type' (parameter=type)", param="type"))
    assert isinstance(error, EngineRefusedError) and (error.param, error.message) == ("messages", "Missing 'type'")


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("n must be at least 1, got 0.", "n"),
        ("stop cannot contain an empty string.", "stop"),
        ("min_p must be in [0, 1], got 3.", None),  # the client sent none
        ("The prompt is odd: n", None),
        ("", None),
    ],
)
def test_a_message_without_a_field_is_about_the_sent_field_that_it_begins_with(message: str, param: str | None) -> None:
    error = refusals_of({"n": 0, "stop": [""]}).of_info(info(400, message))
    assert isinstance(error, EngineRefusedError) and (error.param, error.message) == (param, message)


@pytest.mark.parametrize(
    ("kind", "fields", "param"),
    [
        (kinds.CHAT, {"structured_outputs": {"json": {}}}, "structured_outputs"),
        (kinds.CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
        (kinds.RESPONSES, {"text": {"format": {"type": "json_schema"}}}, "text"),
        (kinds.CHAT, {"tools": [{}], "tool_choice": "required"}, "tools"),
    ],
)
def test_a_constraint_is_named_as_the_client_sent_it(kind: kinds.Kind, fields: dict[str, Any], param: str) -> None:
    refused = info(400, "no such key (parameter=structured_outputs)", param="structured_outputs")
    error = refusals_of(fields, kind=kind).of_info(refused)
    assert isinstance(error, EngineRefusedError)
    assert (error.param, error.message) == (param, f"{param}: no such key")


@pytest.mark.parametrize("code", [400, 500])
def test_errors_of_a_dead_engine_are_its_death(code: int) -> None:
    error = refusals_of({}, is_dead=True).of_info(info(code))
    assert isinstance(error, EngineError) and error.message == GONE


def test_an_unavailable_engine_says_why() -> None:
    error = refusals_of({}, is_dead=True).of_info(info(503))
    assert isinstance(error, EngineError) and error.message == "why"


def test_exceptions_mean_what_vllm_says_about_them(engine: Engine) -> None:
    import pydantic
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.exceptions import VLLMValidationError

    fields = {"messages": [], "temperature": "hot"}
    refusals = refusals_of(fields)
    ours = BakeryError("ours")
    assert refusals.of_exception(ours) is ours
    refused = refusals.of_exception(VLLMValidationError("too high", parameter="top_p", value=3))
    assert isinstance(refused, EngineRefusedError) and (refused.status, refused.param) == (400, "top_p")
    failed = refusals.of_exception(RuntimeError("broken"))
    assert isinstance(failed, InferenceError) and failed.status == 500
    with pytest.raises(pydantic.ValidationError) as invalid:
        ChatCompletionRequest.model_validate(fields)
    field = refusals.of_exception(invalid.value)
    assert isinstance(field, FieldRefusedError) and field.param == "temperature"
    assert field.message == "temperature must be a number, got 'hot'"
    broken = refusals.of_broken_stream(invalid.value)
    assert isinstance(broken, InferenceError) and (broken.status, broken.message) == (500, INTERNAL)
