"""What a client reads about a body that vLLM's models refuse."""

from typing import Any

import pydantic
import pytest

from gateway.engine import Engine
from gateway.engine.core.mistakes import mistake
from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from gateway.errors import FieldRefusedError


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": None}]},
            "messages[0].content must be a string or a list, got null",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "x", "name": 5}]},
            "messages[0].name must be a string, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "tools": [5]},
            "tools[0] must be an object, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}]},
            "tools[0].function is missing",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {}}]},
            "tools[0].function.name is missing",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "x", "function": {"name": "f"}}]},
            "tools[0].type must be 'function', got 'x'",
        ),
        (
            kinds.CHAT,
            {
                "messages": [{"role": "user", "content": "hi"}],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}],
            },
            "tools[0].function.parameters must be an object, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "response_format": {"type": "x"}},
            "response_format.type must be 'text', 'json_object', 'json_schema' or 'structural",
        ),
        (
            kinds.CHAT,
            {
                "messages": [{"role": "user", "content": "hi"}],
                "response_format": {"type": "json_schema", "json_schema": 5},
            },
            "response_format.json_schema must be an object, got 5",
        ),
        (
            kinds.CHAT,
            {
                "messages": [{"role": "user", "content": "hi"}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}},
            },
            "response_format.json_schema.schema must be an object, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "response_format": 5},
            "response_format must be an object, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "stop": 5},
            "stop must be a string or a list, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "stop": ["a", 5]},
            "stop[1] must be a string, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "logit_bias": [1]},
            "logit_bias must be an object, got [1]",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "stream_options": 5, "stream": True},
            "stream_options must be an object, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "stream": "maybe"},
            "stream must be true or false, got 'maybe'",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "seed": "x"},
            "seed must be an integer, got 'x'",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "top_p": "x"},
            "top_p must be a number, got 'x'",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "max_tokens": "x"},
            "max_tokens must be an integer, got 'x'",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1.5},
            "max_tokens must be an integer, got 1.5",
        ),
        (kinds.CHAT, {"messages": [{"role": "user", "content": "hi"}], "n": 1.5}, "n must be an integer, got 1.5"),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "chat_template_kwargs": 5},
            "chat_template_kwargs must be an object, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "documents": 5},
            "documents must be a list, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "documents": [5]},
            "documents[0] must be an object, got 5",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "x"},
            "reasoning_effort must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or ",
        ),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "logprobs": 5},
            "logprobs must be true or false, got 5",
        ),
        (kinds.CHAT, {"messages": [{"role": "user", "content": "hi"}], "user": 5}, "user must be a string, got 5"),
        (
            kinds.CHAT,
            {"messages": [{"role": "user", "content": "hi"}], "structured_outputs": {"json": 5}},
            "structured_outputs.json must be a string or an object, got 5",
        ),
        (kinds.COMPLETION, {"prompt": 5}, "prompt must be a list or a string, got 5"),
        (kinds.COMPLETION, {"prompt": {}}, "prompt must be a list or a string, got {}"),
        (kinds.COMPLETION, {"prompt": [[["x"]]]}, "prompt[0][0] must be an integer, got ['x']"),
        (kinds.COMPLETION, {"prompt": "hi", "stop": 5}, "stop must be a string or a list, got 5"),
        (kinds.COMPLETION, {"prompt": "hi", "suffix": 5}, "suffix must be a string, got 5"),
        (kinds.COMPLETION, {"prompt": "hi", "echo": "x"}, "echo must be true or false, got 'x'"),
        (kinds.COMPLETION, {"prompt": "hi", "response_format": 5}, "response_format must be an object, got 5"),
        (kinds.COMPLETION, {"prompt": "hi", "temperature": "x"}, "temperature must be a number, got 'x'"),
        (kinds.RESPONSES, {}, "input is missing"),
        (kinds.RESPONSES, {"input": 5}, "input must be a string or a list, got 5"),
        (kinds.RESPONSES, {"input": [5]}, "input[0] must be an object, got 5"),
        (kinds.RESPONSES, {"input": ["x"]}, "input[0] must be an object, got 'x'"),
        (kinds.RESPONSES, {"input": [{}]}, "input[0] must have a role or a type"),
        (kinds.RESPONSES, {"input": [{"role": "user"}]}, "input[0].content is missing"),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": 5}]},
            "input[0].content must be a string or a list, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": [5]}]},
            "input[0].content[0] must be an object, got 5",
        ),
        (kinds.RESPONSES, {"input": [{"role": "user", "content": [{}]}]}, "input[0].content[0] must have a type"),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "nope"}]}]},
            "input[0].content[0].type must be 'input_text', 'input_image' or 'input_file', got 'nope'",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text is missing",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": 5}]}]},
            "input[0].content[0].text must be a string, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": 5}]}]},
            "input[0].content[0].image_url must be a string, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "villain", "content": "x"}]},
            "input[0].role must be 'user', 'assistant', 'system' or 'developer', got 'villain'",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"type": "nope"}]},
            "input[0].type must be 'message', 'file_search_call', 'computer_call', 'computer_",
        ),
        (kinds.RESPONSES, {"input": [{"type": "function_call"}]}, "input[0].arguments is missing"),
        (
            kinds.RESPONSES,
            {"input": [{"type": "function_call", "name": "f", "arguments": {}, "call_id": "c"}]},
            "input[0].arguments must be a string, got {}",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
            "input[0].call_id is missing",
        ),
        (kinds.RESPONSES, {"input": [{"type": "function_call_output"}]}, "input[0].output is missing"),
        (
            kinds.RESPONSES,
            {"input": [{"type": "function_call_output", "call_id": "c", "output": 5}]},
            "input[0].output must be a string or a list, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": 5}]}]},
            "input[0].content[0].text must be a string, got 5",
        ),
        (kinds.RESPONSES, {"input": [{"type": "reasoning"}]}, "input[0].summary is missing"),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}, {"type": "message"}]},
            "input[2] must have a role",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "tools": [5]},
            "tools[0] must be an object, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}]},
            "tools[0].name is missing",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "tools": [{"type": "nope"}]},
            "tools[0].type must be 'function', 'file_search', 'computer', 'computer_use_previ",
        ),
        (
            kinds.RESPONSES,
            {
                "input": [{"role": "user", "content": "hi"}],
                "tools": [{"type": "function", "name": "f", "parameters": 5}],
            },
            "tools[0].parameters must be an object, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "tool_choice": "x"},
            "tool_choice must be 'none', 'auto' or 'required' or an object, got 'x'",
        ),
        (kinds.RESPONSES, {"input": [{"role": "user", "content": "hi"}], "text": 5}, "text must be an object, got 5"),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "text": {"format": 5}},
            "text.format must be an object, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "text": {"format": {"type": "x"}}},
            "text.format.type must be 'text', 'json_schema' or 'json_object', got 'x'",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "text": {"format": {"type": "json_schema"}}},
            "text.format.name is missing",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "reasoning": 5},
            "reasoning must be an object, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "reasoning": {"effort": "x"}},
            "reasoning.effort must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or ",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "instructions": 5},
            "instructions must be a string, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "max_output_tokens": "x"},
            "max_output_tokens must be an integer, got 'x'",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "temperature": "x"},
            "temperature must be a number, got 'x'",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "include": ["x"]},
            "include[0] must be 'code_interpreter_call.outputs', 'computer_call_output.output",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "metadata": 5},
            "metadata must be an object, got 5",
        ),
        (
            kinds.RESPONSES,
            {"input": [{"role": "user", "content": "hi"}], "truncation": "x"},
            "truncation must be 'auto' or 'disabled', got 'x'",
        ),
        (kinds.MESSAGES, {"max_tokens": 5}, "messages is missing"),
        (kinds.MESSAGES, {"messages": [{"role": "user", "content": "hi"}]}, "max_tokens is missing"),
        (kinds.MESSAGES, {"max_tokens": 5, "messages": [5]}, "messages[0] must be an object, got 5"),
        (kinds.MESSAGES, {"max_tokens": 5, "messages": [{}]}, "messages[0].role is missing"),
        (kinds.MESSAGES, {"max_tokens": 5, "messages": [{"role": "user"}]}, "messages[0].content is missing"),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "villain", "content": "x"}]},
            "messages[0].role must be 'user', 'assistant' or 'system', got 'villain'",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": 5}]},
            "messages[0].content must be a string or a list, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": [5]}]},
            "messages[0].content[0] must be an object, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": [{}]}]},
            "messages[0].content[0].type is missing",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "messages[0].content[0].text must be a string, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "nope"}]}]},
            "messages[0].content[0].type must be 'text', 'image', 'tool_use', 'tool_result', ",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "image", "source": 5}]}]},
            "messages[0].content[0].source must be an object, got 5",
        ),
        (
            kinds.MESSAGES,
            {
                "max_tokens": 5,
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": 5}]}
                ],
            },
            "messages[0].content[0].input must be an object, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "system": 5},
            "system must be a string or a list, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "system": [5]},
            "system[0] must be an object, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tools": [5]},
            "tools[0] must be an object, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tools": [{}]},
            "tools[0].name is missing",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tools": [{"name": "f"}]},
            "tools[0].input_schema is missing",
        ),
        (
            kinds.MESSAGES,
            {
                "max_tokens": 5,
                "messages": [{"role": "user", "content": "hi"}],
                "tools": [{"name": "f", "input_schema": 5}],
            },
            "tools[0].input_schema must be an object, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tool_choice": "any"},
            "tool_choice must be an object, got 'any'",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tool_choice": {"type": "x"}},
            "tool_choice.type must be 'auto', 'any', 'tool' or 'none', got 'x'",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tool_choice": {"type": "tool"}},
            "tool_choice: tool_choice.name is required when type is 'tool'",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 0, "messages": [{"role": "user", "content": "hi"}]},
            "max_tokens: max_tokens must be positive",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": "x", "messages": [{"role": "user", "content": "hi"}]},
            "max_tokens must be an integer, got 'x'",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "temperature": "x"},
            "temperature must be a number, got 'x'",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "stop_sequences": 5},
            "stop_sequences must be a list, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "thinking": 5},
            "thinking must be an object, got 5",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "thinking": {"type": "x"}},
            "thinking.type must be 'enabled', 'disabled' or 'adaptive', got 'x'",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "output_config": 5},
            "output_config must be an object, got 5",
        ),
        (
            kinds.MESSAGES,
            {
                "max_tokens": 5,
                "messages": [{"role": "user", "content": "hi"}],
                "output_config": {"format": {"type": "x"}},
            },
            "output_config.format.type must be 'json_schema', got 'x'",
        ),
        (
            kinds.MESSAGES,
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "metadata": 5},
            "metadata must be an object, got 5",
        ),
        (kinds.TOKENIZE, {}, "prompt is missing"),
        (kinds.TOKENIZE, {"prompt": 5}, "prompt must be a string, got 5"),
        (kinds.TOKENIZE, {"messages": [5]}, "messages[0] must be an object, got 5"),
        (
            kinds.TOKENIZE,
            {"prompt": "hi", "add_special_tokens": "x"},
            "add_special_tokens must be true or false, got 'x'",
        ),
        (kinds.DETOKENIZE, {}, "tokens is missing"),
        (kinds.DETOKENIZE, {"tokens": 5}, "tokens must be a list, got 5"),
        (kinds.DETOKENIZE, {"tokens": ["a"]}, "tokens[0] must be an integer, got 'a'"),
        (kinds.DETOKENIZE, {"tokens": [-1]}, "tokens[0] must be greater than or equal to 0, got -1"),
    ],
)
def test_the_message_names_the_place_and_what_must_be_there(
    engine: Engine, kind: Kind, fields: dict[str, Any], message: str
) -> None:
    fields = {"model": "x", **fields}
    with pytest.raises(pydantic.ValidationError) as refused:
        kinds.form(kind, fields).model_validate(fields)
    field, text = mistake(refused.value, fields)
    assert text.startswith(message)
    assert field is not None and message.startswith(field), "a field of the body"


@pytest.mark.anyio
@pytest.mark.parametrize("place", [0, 63, 64, 200])
async def test_an_item_far_down_the_list_has_its_own_number(engine: Engine, place: int) -> None:
    """The items of a response's input are validated in pieces."""
    items: list[Any] = [{"role": "user", "content": "x"} for _ in range(300)]
    items[place] = {"role": "user", "content": [{"type": "input_text"}]}
    fields = {"model": "x", "input": items}
    with pytest.raises((FieldRefusedError, pydantic.ValidationError)) as refused:
        await kinds.read(kinds.RESPONSES, fields)
    error = refused.value
    text = error.message if isinstance(error, FieldRefusedError) else mistake(error, fields)[1]
    assert text == f"input[{place}].content[0].text is missing"


def test_a_part_that_vllm_checked_by_itself_has_no_field(engine: Engine) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        pydantic.TypeAdapter(list[int]).validate_python(["x"])
    assert mistake(refused.value, {"x": 1}) == (None, "must be an integer")
