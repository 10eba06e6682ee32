"""LlamaIndex: OpenAILike for chat, completions, structured output and tools."""

from typing import Any, Literal

import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.visits.steps import KEY, MODEL, OPENAI_URL, refusal, run, step


class Light(BaseModel):
    """State of a lamp."""

    on: bool
    room: Literal["kitchen", "hall"]


def switch(on: bool) -> str:
    """Switch the lamp."""
    return str(on)


HELLO = [ChatMessage(role="user", content="Say hello.")]


def model(name: str = MODEL, key: str = KEY, **fields: Any) -> OpenAILike:
    settings: dict[str, Any] = {
        "is_chat_model": True,
        "is_function_calling_model": True,
        "context_window": 4096,
        "temperature": 0,
        "max_tokens": 60,
        "max_retries": 0,
        "timeout": 300,
        **fields,
    }
    return OpenAILike(model=name, api_base=OPENAI_URL, api_key=key, **settings)


@step
def chat_whole_and_streamed() -> None:
    whole = model().chat(HELLO)
    assert whole.message.content and whole.raw.usage.completion_tokens > 0
    assert "".join(part.delta or "" for part in model().stream_chat(HELLO)) == whole.message.content


@step
def a_completion() -> None:
    answers = model(is_chat_model=False, max_tokens=8)
    text = answers.complete("Once upon a time").text
    assert text and "".join(part.delta or "" for part in answers.stream_complete("Once upon a time")) == text


@step
def structured_output_by_a_schema() -> None:
    structured = model(should_use_structured_outputs=True, max_tokens=100).as_structured_llm(Light)
    assert isinstance(structured.chat(HELLO).raw, Light)


@step
def structured_output_by_a_tool() -> None:
    assert isinstance(model(max_tokens=100).as_structured_llm(Light).chat(HELLO).raw, Light)


@step
def a_required_tool_is_called() -> None:
    llm = model(max_tokens=100)
    tool = FunctionTool.from_defaults(fn=switch)
    answer = llm.chat_with_tools([tool], user_msg="Light the kitchen.", tool_required=True)
    calls = llm.get_tool_calls_from_response(answer)
    assert calls and calls[0].tool_name == "switch" and isinstance(calls[0].tool_kwargs["on"], bool)


@step
def a_wrong_key_and_an_unknown_model() -> None:
    refusal(openai.AuthenticationError, lambda: model(key="sk-wrong").chat(HELLO), "key")
    refusal(openai.NotFoundError, lambda: model("no/such/model").chat(HELLO), "no/such/model")


run()
