"""OpenAI's Agents SDK: text, structured output and tools, on chat completions and on responses."""

from typing import Any, Literal

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.visits.steps import KEY, MODEL, OPENAI_URL, run, step

set_tracing_disabled(True)


class Light(BaseModel):
    """State of a lamp."""

    on: bool
    room: Literal["kitchen", "hall"]


def models(name: str = MODEL, key: str = KEY) -> list[Any]:
    client = AsyncOpenAI(base_url=OPENAI_URL, api_key=key, max_retries=0)
    return [kind(model=name, openai_client=client) for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel)]


def agent(model: Any, **fields: Any) -> Agent:
    settings = ModelSettings(temperature=0, max_tokens=100, tool_choice=fields.pop("tool_choice", None))
    return Agent(name="bread", instructions="Be short.", model=model, model_settings=settings, **fields)


@step
async def text() -> None:
    for model in models():
        result = await Runner.run(agent(model), "Say hello.")
        assert result.final_output and result.context_wrapper.usage.output_tokens > 0


@step
async def text_is_streamed() -> None:
    for model in models():
        result = Runner.run_streamed(agent(model), "Say hello.")
        deltas = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        assert "".join(deltas) == result.final_output


@step
async def structured_output() -> None:
    for model in models():
        result = await Runner.run(agent(model, output_type=Light), "Light the kitchen.")
        assert isinstance(result.final_output, Light)


@function_tool
def switch(on: bool) -> str:
    """Switch the lamp."""
    return f"on: {on}"


@step
async def a_required_tool_is_called() -> None:
    for model in models():
        helper = agent(model, tools=[switch], tool_choice="required", tool_use_behavior="stop_on_first_tool")
        result = await Runner.run(helper, "Light the kitchen.")
        assert result.final_output in ("on: True", "on: False"), result.final_output


@step
async def a_wrong_key_and_an_unknown_model() -> None:
    for wrong, kind, word in (
        (models(key="sk-wrong"), openai.AuthenticationError, "key"),
        (models(name="no/such/model"), openai.NotFoundError, "no/such/model"),
    ):
        for model in wrong:
            try:
                await Runner.run(agent(model), "Hello")
            except kind as error:
                assert word in str(error)
            else:
                raise AssertionError("no error")


run()
