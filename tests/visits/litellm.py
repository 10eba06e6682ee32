"""LiteLLM: its openai/ and anthropic/ routes, text completions, responses and its own exceptions."""

from functools import partial
from typing import Any, Literal

import litellm
from pydantic import BaseModel

from tests.visits.steps import KEY, MODEL, OPENAI_URL, URL, refusal, run, step

litellm.suppress_debug_info = True


class Light(BaseModel):
    """State of a lamp."""

    on: bool
    room: Literal["kitchen", "hall"]


TOOL = {"type": "function", "function": {"name": "light", "parameters": Light.model_json_schema()}}
ROUTES = {"openai": OPENAI_URL, "anthropic": URL}


def ask(route: str, text: str = "Say hello.", model: str = MODEL, key: str = KEY, **fields: Any) -> Any:
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 40, "num_retries": 0, **fields}
    messages = [{"role": "user", "content": text}]
    address = {"api_base": ROUTES[route], "api_key": key}
    return litellm.completion(model=f"{route}/{model}", messages=messages, **address, **settings)


@step
def an_answer_whole_and_streamed() -> None:
    for route in ROUTES:
        whole = ask(route)
        assert whole.choices[0].message.content and whole.choices[0].finish_reason in ("stop", "length")
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0
        chunks = list(ask(route, stream=True, stream_options={"include_usage": True}))
        rebuilt = litellm.stream_chunk_builder(chunks)
        assert rebuilt.choices[0].message.content == whole.choices[0].message.content
        assert rebuilt.usage.completion_tokens == whole.usage.completion_tokens


@step
async def acompletion() -> None:
    messages = [{"role": "user", "content": "Say hello."}]
    fields: dict[str, Any] = {"api_base": OPENAI_URL, "api_key": KEY, "max_tokens": 8}
    answer = await litellm.acompletion(model=f"openai/{MODEL}", messages=messages, **fields)
    assert answer.choices[0].message.content


@step
def a_cut_answer_says_length() -> None:
    for route in ROUTES:
        assert ask(route, "Count to a hundred.", max_tokens=3).choices[0].finish_reason == "length"


@step
def a_forced_tool_is_called() -> None:
    for route in ROUTES:
        for choice in ("required", {"type": "function", "function": {"name": "light"}}):
            answer = ask(route, "Light the kitchen.", tools=[TOOL], tool_choice=choice, max_tokens=100)
            calls = answer.choices[0].message.tool_calls
            assert answer.choices[0].finish_reason == "tool_calls" and calls
            assert Light.model_validate_json(calls[0].function.arguments)


@step
def structured_output() -> None:
    for route in ROUTES:
        answer = ask(route, "Light the kitchen.", response_format=Light, max_tokens=100)
        assert Light.model_validate_json(answer.choices[0].message.content)


@step
def a_text_completion() -> None:
    fields: dict[str, Any] = {"api_base": OPENAI_URL, "api_key": KEY, "max_tokens": 8}
    answer = litellm.text_completion(model=f"text-completion-openai/{MODEL}", prompt="Once upon a time", **fields)
    assert answer.choices[0].text


@step
def responses() -> None:
    fields: dict[str, Any] = {"api_base": OPENAI_URL, "api_key": KEY, "max_output_tokens": 20}
    assert litellm.responses(model=f"openai/{MODEL}", input="Say hello.", **fields).output_text


@step
def hosted_vllm() -> None:
    messages = [{"role": "user", "content": "Say hello."}]
    fields: dict[str, Any] = {"api_base": OPENAI_URL, "api_key": KEY, "max_tokens": 8}
    assert litellm.completion(model=f"hosted_vllm/{MODEL}", messages=messages, **fields).choices[0].message.content


@step
def a_wrong_key() -> None:
    for route in ROUTES:
        refusal(litellm.AuthenticationError, partial(ask, route, key="sk-wrong"), "key")


@step
def an_unknown_model() -> None:
    for route in ROUTES:
        refusal(litellm.NotFoundError, partial(ask, route, model="no/such/model"), "no/such/model")


@step
def too_long_a_prompt() -> None:
    """LiteLLM reads the text of the error to tell that the window is full."""
    for route in ROUTES:
        refusal(litellm.ContextWindowExceededError, partial(ask, route, "word " * 9000), "4096")


run()
