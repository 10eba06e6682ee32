"""Anthropic's client for Python: streams, tools, structured output, prefilled answers, counting and errors."""

from typing import Any, Literal

import anthropic
from anthropic import Anthropic, beta_tool
from pydantic import BaseModel

from tests.visits.steps import KEY, MODEL, URL, refusal, run, step


class Light(BaseModel):
    """State of a lamp."""

    on: bool
    room: Literal["kitchen", "hall"]


client: Any = Anthropic(base_url=URL, api_key=KEY, max_retries=0)
HELLO: Any = [{"role": "user", "content": "Say hello."}]
QUESTION: Any = [{"role": "user", "content": "Light the kitchen."}]
TOOL: Any = {"name": "light", "description": "Switch a lamp", "input_schema": Light.model_json_schema()}


def ask(**fields: Any) -> Any:
    return client.messages.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 40, **fields})


@step
def a_message() -> None:
    answer = ask(system=[{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}])
    assert answer.content[0].text and answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


@step
def the_streaming_helper_assembles_one_message() -> None:
    with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=40) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text and final.content[0].text == text and final.usage.output_tokens > 0


@step
def a_prefilled_answer_goes_on() -> None:
    """Its words are the last of the prompt: no new turn is opened after them."""
    messages: Any = [*HELLO, {"role": "assistant", "content": "Hello, my name is"}]
    answer = ask(messages=messages)
    assert answer.content[0].text and "Hello, my name is" not in answer.content[0].text
    assert answer.usage.input_tokens == client.messages.count_tokens(model=MODEL, messages=messages).input_tokens
    refusal(anthropic.BadRequestError, lambda: ask(messages=messages, tools=[TOOL], tool_choice={"type": "any"}))


@step
def a_prompt_that_was_read_before_counts_as_cached() -> None:
    fields: Any = {"messages": [{"role": "user", "content": "Say hello. " * 300}], "max_tokens": 1}
    ask(**fields)
    assert ask(**fields).usage.cache_read_input_tokens > 300


@step
def a_forced_tool_is_called_whole_and_streamed() -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "light"}):
        fields: Any = {"messages": QUESTION, "tools": [TOOL], "tool_choice": choice, "max_tokens": 100}
        with client.messages.stream(model=MODEL, **fields) as stream:
            streamed = stream.get_final_message()
        for answer in (ask(**fields), streamed):
            calls = [block for block in answer.content if block.type == "tool_use"]
            assert answer.stop_reason == "tool_use" and calls
            assert Light.model_validate(calls[0].input)


@step
def parse() -> None:
    answer = client.messages.parse(model=MODEL, messages=QUESTION, max_tokens=100, output_format=Light)
    assert isinstance(answer.parsed_output, Light)


@step
def the_tool_runner_ends() -> None:
    @beta_tool
    def switch(on: bool) -> str:
        """Switch the lamp.

        Args:
            on: whether it is lit
        """
        return str(on)

    runner = client.beta.messages.tool_runner(
        model=MODEL, messages=QUESTION, tools=[switch], max_tokens=40, max_iterations=2
    )
    assert runner.until_done().content is not None


@step
def tokens_are_counted() -> None:
    count = client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens
    assert count == ask(max_tokens=1).usage.input_tokens


@step
def models_are_listed_and_found() -> None:
    models = {model.id: model for model in client.models.list()}
    assert models[MODEL].type == "model" and models[MODEL].display_name and models[MODEL].created_at.year > 2000
    assert client.models.retrieve(MODEL).id == MODEL


@step
def errors() -> None:
    stranger = Anthropic(base_url=URL, api_key="sk-wrong", max_retries=0)
    hello: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 8}
    refusal(anthropic.AuthenticationError, lambda: stranger.messages.create(**hello), "key")
    refusal(anthropic.NotFoundError, lambda: ask(model="no/such/model"), "no/such/model")
    refusal(anthropic.BadRequestError, lambda: ask(max_tokens=0), "max_tokens")
    refusal(anthropic.NotFoundError, lambda: client.messages.batches.list())


run()
