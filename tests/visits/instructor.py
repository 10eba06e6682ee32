"""Instructor: one model class through each of its modes, for OpenAI's and Anthropic's client."""

from collections.abc import Iterable
from typing import Any, Literal

import anthropic
import instructor
import openai
from instructor.core import IncompleteOutputException, InstructorRetryException
from pydantic import BaseModel

from tests.visits.steps import KEY, MODEL, OPENAI_URL, URL, refusal, run, step


class Light(BaseModel):
    """State of a lamp."""

    on: bool
    room: Literal["kitchen", "hall"]


MESSAGES = [{"role": "user", "content": "Light the kitchen."}]
MODE = instructor.Mode


def light(mode: instructor.Mode, model: str = MODEL, key: str = KEY, **fields: Any) -> Any:
    client = instructor.from_openai(openai.OpenAI(base_url=OPENAI_URL, api_key=key, max_retries=0), mode=mode)
    limit = "max_output_tokens" if mode is MODE.RESPONSES_TOOLS else "max_tokens"
    settings = {"model": model, "messages": MESSAGES, "response_model": Light, limit: 100, "temperature": 0}
    return client.create(**{**settings, "max_retries": 1, **fields})


def claude_light(mode: instructor.Mode, model: str = MODEL, key: str = KEY) -> Any:
    client = instructor.from_anthropic(anthropic.Anthropic(base_url=URL, api_key=key, max_retries=0), mode=mode)
    return client.create(model=model, messages=MESSAGES, response_model=Light, max_tokens=100, max_retries=1)


@step
def tools() -> None:
    assert isinstance(light(MODE.TOOLS), Light)


@step
def tools_strict() -> None:
    assert isinstance(light(MODE.TOOLS_STRICT), Light)


@step
def json_schema() -> None:
    assert isinstance(light(MODE.JSON_SCHEMA), Light)


@step
def json_mode_gives_json_of_any_shape() -> None:
    """Only the prompt holds the schema: a small model seldom follows it, but what it writes is a JSON object."""
    try:
        assert isinstance(light(MODE.JSON, max_tokens=300), Light)
    except InstructorRetryException as error:
        assert "Light" in str(error) and "Invalid JSON" not in str(error), error


@step
def responses_tools() -> None:
    assert isinstance(light(MODE.RESPONSES_TOOLS), Light)


@step
def parallel_tools() -> None:
    """This mode leaves it to the model whether to call a tool."""
    try:
        lights = list(light(MODE.PARALLEL_TOOLS, response_model=Iterable[Light]))
    except IncompleteOutputException as error:
        assert "max_tokens" in str(error), error
    except InstructorRetryException as error:
        assert "No tool calls" in str(error) or "validation error" in str(error), error
    else:
        assert lights and all(isinstance(item, Light) for item in lights)


@step
def a_partial_object_is_streamed() -> None:
    client = instructor.from_openai(openai.OpenAI(base_url=OPENAI_URL, api_key=KEY), mode=MODE.TOOLS)
    parts = list(client.create_partial(response_model=Light, model=MODEL, messages=MESSAGES, max_tokens=100))
    assert parts and Light.model_validate(parts[-1].model_dump())


@step
def usage_comes_with_the_completion() -> None:
    client = instructor.from_openai(openai.OpenAI(base_url=OPENAI_URL, api_key=KEY), mode=MODE.JSON_SCHEMA)
    fields: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 100, "temperature": 0}
    answer, completion = client.create_with_completion(response_model=Light, **fields)
    assert isinstance(answer, Light) and completion.usage.completion_tokens > 0


@step
def anthropic_tools() -> None:
    assert isinstance(claude_light(MODE.ANTHROPIC_TOOLS), Light)


@step
def errors_of_the_service_are_passed_on() -> None:
    refusal(InstructorRetryException, lambda: light(MODE.TOOLS, key="sk-wrong"), "401", "key")
    refusal(InstructorRetryException, lambda: light(MODE.TOOLS, model="no/such/model"), "no/such/model")
    refusal(InstructorRetryException, lambda: claude_light(MODE.ANTHROPIC_TOOLS, model="no/such"), "no/such")


run()
