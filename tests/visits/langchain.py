"""LangChain: ChatOpenAI, OpenAI, OpenAIEmbeddings and ChatAnthropic."""

from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.visits.steps import KEY, MODEL, OPENAI_URL, URL, refusal, run, step


class Light(BaseModel):
    """State of a lamp."""

    on: bool
    room: Literal["kitchen", "hall"]


@tool
def switch(on: bool, room: Literal["kitchen", "hall"]) -> str:
    """Switch the lamp of a room."""
    return f"{room}: {on}"


def chat(**fields: Any) -> ChatOpenAI:
    settings: dict[str, Any] = {"model": MODEL, "base_url": OPENAI_URL, "api_key": KEY, "max_retries": 0}
    return ChatOpenAI(**{**settings, "temperature": 0, "max_tokens": 60, **fields})


def claude(**fields: Any) -> ChatAnthropic:
    settings: dict[str, Any] = {"model": MODEL, "base_url": URL, "api_key": KEY, "max_retries": 0}
    return ChatAnthropic(**{**settings, "temperature": 0, "max_tokens": 60, **fields})


def whole(chunks: Iterator[Any]) -> Any:
    """One message from the chunks of a stream."""
    first = next(chunks)
    for chunk in chunks:
        first += chunk
    return first


@step
def invoke() -> None:
    answer = chat().invoke([SystemMessage("Be short."), HumanMessage("Say hello.")])
    assert answer.content and answer.response_metadata["finish_reason"] in ("stop", "length")
    usage = answer.usage_metadata
    assert usage and usage["input_tokens"] > 0 and usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert answer.response_metadata["model_name"] == MODEL


@step
def a_cut_answer_says_length() -> None:
    answer = chat(max_tokens=3).invoke("Count to a hundred.")
    assert answer.response_metadata["finish_reason"] == "length" and answer.usage_metadata["output_tokens"] == 3


@step
def a_stream_has_the_same_text_and_usage() -> None:
    expected = chat().invoke("Say hello.")
    streamed = whole(chat(stream_usage=True).stream("Say hello."))
    assert streamed.content == expected.content
    assert streamed.usage_metadata["output_tokens"] == expected.usage_metadata["output_tokens"]


@step
async def astream() -> None:
    pieces = [chunk.content async for chunk in chat().astream("Say hello.")]
    assert "".join(pieces) == chat().invoke("Say hello.").content and len(pieces) > 2


@step
def batch() -> None:
    questions = ["Say hello.", "Name a colour.", "Name a fruit."]
    answers = chat(max_tokens=12).batch(questions)
    assert len(answers) == 3 and all(answer.content for answer in answers)


@step
def structured_output_json_schema() -> None:
    light = chat(max_tokens=200).with_structured_output(Light, method="json_schema").invoke("Light the kitchen.")
    assert isinstance(light, Light)


@step
def structured_output_json_schema_strict() -> None:
    model = chat(max_tokens=200).with_structured_output(Light, method="json_schema", strict=True)
    assert isinstance(model.invoke("Light the kitchen."), Light)


@step
def structured_output_function_calling() -> None:
    light = chat(max_tokens=200).with_structured_output(Light, method="function_calling").invoke("Light the kitchen.")
    assert isinstance(light, Light)


@step
def structured_output_json_mode() -> None:
    model = chat(max_tokens=300).with_structured_output(method="json_mode", schema=None, include_raw=True)
    answer = model.invoke("Answer in JSON: which city is the capital of France?")
    assert answer["parsing_error"] is None and isinstance(answer["parsed"], dict), answer["raw"]


@step
def structured_output_is_streamed() -> None:
    parts = list(chat(max_tokens=200).with_structured_output(Light).stream("Light the kitchen."))
    assert isinstance(parts[-1], Light)


@step
def a_required_tool_is_called() -> None:
    answer = chat(max_tokens=200).bind_tools([switch], tool_choice="required").invoke("Light the kitchen.")
    assert answer.tool_calls and not answer.invalid_tool_calls
    assert {call["name"] for call in answer.tool_calls} == {"switch"}
    assert switch.invoke(answer.tool_calls[0]["args"])


@step
def a_named_tool_is_called() -> None:
    answer = chat(max_tokens=200).bind_tools([switch], tool_choice="switch").invoke("Light the kitchen.")
    assert [call["name"] for call in answer.tool_calls] == ["switch"] and answer.tool_calls[0]["id"]


@step
def a_forced_tool_call_is_streamed() -> None:
    message = whole(chat(max_tokens=200).bind_tools([switch], tool_choice="switch").stream("Light the kitchen."))
    assert [call["name"] for call in message.tool_calls] == ["switch"] and not message.invalid_tool_calls


@step
def tool_choice_none_and_auto_answer() -> None:
    for choice in ("none", "auto"):
        answer = chat().bind_tools([switch], tool_choice=choice).invoke("Say hello.")
        assert answer.content or answer.tool_calls
    assert not chat().bind_tools([switch], tool_choice="none").invoke("Say hello.").tool_calls


@step
def a_result_of_a_tool_is_answered() -> None:
    call = {"name": "switch", "args": {"on": True, "room": "kitchen"}, "id": "call_1"}
    messages = [
        HumanMessage("Light the kitchen."),
        AIMessage("", tool_calls=[call]),
        ToolMessage("kitchen: True", tool_call_id="call_1"),
    ]
    assert chat().bind_tools([switch]).invoke(messages).content


@step
def logprobs() -> None:
    answer = chat(max_tokens=4).bind(logprobs=True, top_logprobs=2).invoke("Say hello.")
    assert len(answer.response_metadata["logprobs"]["content"]) == 4


@step
def stop_ends_an_answer() -> None:
    text = chat().invoke("Say hello.").content
    word = text.split()[2]
    answer = chat().invoke("Say hello.", stop=[word])
    assert answer.content == text[: text.index(word)] and answer.response_metadata["finish_reason"] == "stop"


@step
def responses_api() -> None:
    model = chat(use_responses_api=True)
    answer = model.invoke("Say hello.")
    assert answer.text and answer.usage_metadata["output_tokens"] > 0
    assert whole(model.stream("Say hello.")).text == answer.text


@step
def responses_api_structured_output_and_tools() -> None:
    model = chat(use_responses_api=True, max_tokens=200)
    assert isinstance(model.with_structured_output(Light, method="json_schema").invoke("Light the kitchen."), Light)
    answer = model.bind_tools([switch], tool_choice="switch").invoke("Light the kitchen.")
    assert [call["name"] for call in answer.tool_calls] == ["switch"]


@step
def completions() -> None:
    model = OpenAI(model=MODEL, base_url=OPENAI_URL, api_key=KEY, temperature=0, max_tokens=10, max_retries=0)
    text = model.invoke("Once upon a time")
    assert text and "".join(model.stream("Once upon a time")) == text
    assert len(model.batch(["One two", "Red green"])) == 2


@step
def token_ids_of_embeddings_are_refused() -> None:
    model = OpenAIEmbeddings(model=MODEL, base_url=OPENAI_URL, api_key=KEY, check_embedding_ctx_length=False)
    refusal(openai.BadRequestError, lambda: model.embed_query("Hello"), "embeddings")


@step
def a_wrong_key() -> None:
    error = refusal(openai.AuthenticationError, lambda: chat(api_key="sk-wrong").invoke("Hello"), "key")
    assert error.status_code == 401
    refusal(anthropic.AuthenticationError, lambda: claude(api_key="sk-wrong").invoke("Hello"), "key")


@step
def an_unknown_model() -> None:
    error = refusal(openai.NotFoundError, lambda: chat(model="no/such/model").invoke("Hello"), "no/such/model")
    assert error.code == "model_not_found" and error.param == "model"
    refusal(anthropic.NotFoundError, lambda: claude(model="no/such/model").invoke("Hello"), "no/such/model")


@step
def too_long_a_prompt() -> None:
    refusal(openai.BadRequestError, lambda: chat().invoke("word " * 9000), "4096")


@step
def anthropic_invoke_and_stream() -> None:
    answer = claude().invoke([SystemMessage("Be short."), HumanMessage("Say hello.")])
    assert answer.text and answer.response_metadata["stop_reason"] in ("end_turn", "max_tokens")
    assert answer.usage_metadata["input_tokens"] > 0 and answer.usage_metadata["output_tokens"] > 0
    streamed = whole(claude().stream([SystemMessage("Be short."), HumanMessage("Say hello.")]))
    assert streamed.text == answer.text
    assert streamed.usage_metadata["output_tokens"] == answer.usage_metadata["output_tokens"]
    assert streamed.usage_metadata["input_tokens"] == answer.usage_metadata["input_tokens"]


@step
def anthropic_tools() -> None:
    model = claude(max_tokens=200)
    for choice in ("any", "switch"):
        answer = model.bind_tools([switch], tool_choice=choice).invoke("Light the kitchen.")
        assert answer.tool_calls and answer.tool_calls[0]["name"] == "switch", answer
        assert answer.response_metadata["stop_reason"] == "tool_use"
    streamed = whole(model.bind_tools([switch], tool_choice="switch").stream("Light the kitchen."))
    assert streamed.tool_calls and not streamed.invalid_tool_calls


@step
def anthropic_structured_output() -> None:
    model = claude(max_tokens=200)
    for method in ("function_calling", "json_schema"):
        light = model.with_structured_output(Light, method=method).invoke("Light the kitchen.")
        assert isinstance(light, Light), (method, light)


run()
