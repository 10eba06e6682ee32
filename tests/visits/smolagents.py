"""smolagents: OpenAIModel, whole and streamed, and a tool-calling agent."""

import json
from typing import Any

import openai
from smolagents import ChatMessage, MessageRole, OpenAIModel, Tool, ToolCallingAgent
from smolagents.models import agglomerate_stream_deltas
from smolagents.utils import AgentGenerationError

from tests.visits.steps import KEY, MODEL, OPENAI_URL, refusal, run, step


class Switch(Tool):
    name = "switch"
    description = "Switches the lamp."
    inputs = {"on": {"type": "boolean", "description": "whether it is lit"}}  # noqa: RUF012
    output_type = "string"

    def forward(self, on: bool) -> str:
        return str(on)


HELLO = [ChatMessage(role=MessageRole.USER, content="Say hello.")]
RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "light",
        "schema": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
    },
}


def model(name: str = MODEL, key: str = KEY, **fields: Any) -> OpenAIModel:
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 60, **fields}
    return OpenAIModel(model_id=name, api_base=OPENAI_URL, api_key=key, client_kwargs={"max_retries": 0}, **settings)


@step
def text_whole_and_streamed() -> None:
    whole = model().generate(HELLO)
    assert whole.content and whole.token_usage.output_tokens > 0
    streamed = agglomerate_stream_deltas(list(model().generate_stream(HELLO)))
    assert streamed.content == whole.content
    assert streamed.token_usage.output_tokens == whole.token_usage.output_tokens


@step
def a_response_format() -> None:
    answer = model().generate(HELLO, response_format=RESPONSE_FORMAT)
    assert isinstance(json.loads(answer.content)["on"], bool)


@step
def a_tool_is_called() -> None:
    """It asks with tool_choice `required`."""
    answer = model().generate(HELLO, tools_to_call_from=[Switch()])
    assert answer.tool_calls and answer.tool_calls[0].function.name == "switch"


@step
def an_agent_ends() -> None:
    agent = ToolCallingAgent(tools=[Switch()], model=model(max_tokens=100), max_steps=1, verbosity_level=0)
    assert agent.run("Light the kitchen.") is not None
    assert agent.memory.steps


@step
def a_wrong_key_and_an_unknown_model() -> None:
    refusal(openai.AuthenticationError, lambda: model(key="sk-wrong").generate(HELLO), "key")
    refusal(openai.NotFoundError, lambda: model("no/such/model").generate(HELLO), "no/such/model")
    agent = ToolCallingAgent(tools=[], model=model("no/such/model"), max_steps=1, verbosity_level=0)
    refusal(AgentGenerationError, lambda: agent.run("Hello"), "no/such/model")


run()
