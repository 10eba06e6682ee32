"""PydanticAI: agents with text, structured output and tools, on OpenAI's chat and responses and on Anthropic's API."""

from functools import partial
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.visits.steps import KEY, MODEL, OPENAI_URL, URL, refusal, run, step

SETTINGS: Any = {"temperature": 0, "max_tokens": 100}
QUESTION = "Light the kitchen."


class Light(BaseModel):
    """State of a lamp."""

    on: bool
    room: Literal["kitchen", "hall"]


def chat(model: str = MODEL, key: str = KEY) -> OpenAIChatModel:
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=OPENAI_URL, api_key=key))


def responses() -> OpenAIResponsesModel:
    return OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=OPENAI_URL, api_key=KEY))


def claude(model: str = MODEL, key: str = KEY) -> AnthropicModel:
    return AnthropicModel(model, provider=AnthropicProvider(base_url=URL, api_key=key))


@step
async def text_whole_and_streamed() -> None:
    for model in (chat(), responses(), claude()):
        agent = Agent(model, model_settings=SETTINGS)
        whole = await agent.run("Say hello.")
        usage = whole.usage() if callable(whole.usage) else whole.usage
        assert whole.output and usage.input_tokens > 0 and usage.output_tokens > 0
        async with agent.run_stream("Say hello.") as stream:
            assert await stream.get_output() == whole.output


@step
async def instructions_and_history() -> None:
    agent = Agent(chat(), instructions="Be short.", model_settings=SETTINGS)
    first = await agent.run("Say hello.")
    second = await agent.run("And now goodbye.", message_history=first.all_messages())
    assert second.output and len(second.all_messages()) == 4


@step
async def native_output() -> None:
    for model in (chat(), responses()):
        result = await Agent(model, output_type=NativeOutput(Light), model_settings=SETTINGS).run(QUESTION)
        assert isinstance(result.output, Light)


@step
async def tool_output() -> None:
    for model in (chat(), responses(), claude()):
        result = await Agent(model, output_type=ToolOutput(Light), model_settings=SETTINGS).run(QUESTION)
        assert isinstance(result.output, Light)


@step
async def structured_output_is_streamed() -> None:
    async with Agent(chat(), output_type=Light, model_settings=SETTINGS).run_stream(QUESTION) as stream:
        assert isinstance(await stream.get_output(), Light)


@step
async def prompted_output_depends_on_the_model() -> None:
    """Only the prompt holds the schema: a small model seldom follows it, which the client reports."""
    agent = Agent(chat(), output_type=PromptedOutput(Light), model_settings=SETTINGS, retries=0)
    try:
        assert isinstance((await agent.run(QUESTION)).output, Light)
    except UnexpectedModelBehavior as error:
        assert "retries" in str(error) or "limit" in str(error), error


@step
async def a_tool_may_be_called() -> None:
    agent = Agent(chat(), model_settings=SETTINGS)

    @agent.tool_plain
    def switch(on: bool) -> str:
        """Switch the lamp."""
        return str(on)

    assert (await agent.run("Say hello.")).output


@step
def a_wrong_key() -> None:
    for model in (chat(key="sk-wrong"), claude(key="sk-wrong")):
        error = refusal(ModelHTTPError, partial(Agent(model).run_sync, "Hello"), "key")
        assert error.status_code == 401


@step
def an_unknown_model() -> None:
    for model in (chat("no/such/model"), claude("no/such/model")):
        error = refusal(ModelHTTPError, partial(Agent(model).run_sync, "Hello"), "no/such/model")
        assert error.status_code == 404


run()
