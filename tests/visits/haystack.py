"""Haystack: OpenAIChatGenerator, whole, streamed, with tools and a response format."""

import json
from typing import Any

import openai
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack.utils import Secret

from tests.visits.steps import KEY, MODEL, OPENAI_URL, refusal, run, step

SCHEMA = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
SWITCH = Tool(name="switch", description="Switches the lamp.", parameters=SCHEMA, function=lambda on: str(on))
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "light", "schema": SCHEMA}}
HELLO = [ChatMessage.from_user("Say hello.")]


def reply(model: str = MODEL, key: str = KEY, callback: Any = None, tools: Any = None, **fields: Any) -> ChatMessage:
    generator = OpenAIChatGenerator(
        api_key=Secret.from_token(key),
        model=model,
        api_base_url=OPENAI_URL,
        streaming_callback=callback,
        tools=tools,
        generation_kwargs={"temperature": 0, "max_tokens": 60, **fields},
        timeout=300,
        max_retries=0,
    )
    return generator.run(HELLO)["replies"][0]


@step
def text_whole_and_streamed() -> None:
    whole = reply()
    assert whole.text and whole.meta["finish_reason"] in ("stop", "length")
    assert whole.meta["usage"]["completion_tokens"] > 0
    pieces: list[str] = []
    streamed = reply(callback=lambda chunk: pieces.append(chunk.content))
    assert streamed.text == "".join(pieces) == whole.text


@step
def a_response_format() -> None:
    text = reply(response_format=RESPONSE_FORMAT).text
    assert text and isinstance(json.loads(text)["on"], bool)


@step
def a_required_tool_is_called() -> None:
    for callback in (None, lambda chunk: None):
        answer = reply(callback=callback, tools=[SWITCH], tool_choice="required")
        assert answer.tool_calls and answer.tool_calls[0].tool_name == "switch"
        assert isinstance(answer.tool_calls[0].arguments["on"], bool)


@step
def a_wrong_key_and_an_unknown_model() -> None:
    refusal(openai.AuthenticationError, lambda: reply(key="sk-wrong"), "key")
    refusal(openai.NotFoundError, lambda: reply("no/such/model"), "no/such/model")


run()
