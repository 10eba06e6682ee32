"""Messages and parts that are refused by their place."""

from typing import Any

import pytest

from gateway.engine.requests.conversation import MEDIA, check_anthropic, check_chat, check_media, continued
from gateway.errors import FieldRefusedError

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def calling(call: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [CALL, call]}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (5, "messages[1] must be an object, got 5"),
        ({}, "messages[1].role must be a string, got nothing"),
        ({"role": "user", "content": {}}, "messages[1].content must be a string, a list of parts or null, got {}"),
        (user(5), "messages[1].content[0] must be an object, got 5"),
        (user("x", {}), "messages[1].content[1] has no type"),
        (user({"text": "x"}), "messages[1].content[0] has no type"),
        (user({"type": "nope"}), "messages[1].content[0].type is 'nope'; allowed are"),
        (user({"type": 5}), "messages[1].content[0].type is 5"),
        (user({"type": "text"}), "messages[1].content[0].text must be a string, got nothing"),
        (user({"type": "text", "text": ["x"]}), "messages[1].content[0].text must be a string, got ['x']"),
        (user({"type": "refusal"}), "messages[1].content[0].refusal must be a string"),
        (user({"type": "image_url"}), "messages[1].content[0].image_url must be an object, got nothing"),
        (user({"type": "image_url", "image_url": {}}), "messages[1].content[0].image_url.url must be a string"),
        (
            user({"type": "input_audio", "input_audio": 5}),
            "messages[1].content[0].input_audio must be an object, got 5",
        ),
        ({"role": "assistant", "tool_calls": {}}, "messages[1].tool_calls must be a list, got {}"),
        (calling(5), "messages[1].tool_calls[1] must be an object, got 5"),
        (calling({}), "messages[1].tool_calls[1].id must be a string, got nothing"),
        (calling({**CALL, "id": 5}), "messages[1].tool_calls[1].id must be a string, got 5"),
        (calling({**CALL, "type": "x"}), "messages[1].tool_calls[1].type must be 'function' or 'custom', got 'x'"),
        (calling({"id": "1"}), "messages[1].tool_calls[1].function must be an object, got nothing"),
        (calling({"id": "1", "function": {}}), "messages[1].tool_calls[1].function.name must be a string"),
        (
            calling({"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}),
            "messages[1].tool_calls[1].function.arguments must be a string, got {'a': 1}",
        ),
        (calling({"id": "1", "type": "custom", "custom": {"name": "f"}}), "[1].custom.input must be a string"),
    ],
)
def test_a_wrong_chat_message_is_refused_by_its_place(message: Any, words: str) -> None:
    with pytest.raises(FieldRefusedError) as refused:
        check_chat([user("x"), message])
    assert refused.value.param == "messages" and words in refused.value.message


def test_chats_as_clients_send_them_are_accepted() -> None:
    check_chat(
        [
            {"role": "system", "content": [{"type": "text", "text": "x"}]},
            user({"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": "data:,"}}),
            user({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, {"image_url": "data:,"}, "x"),
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": None},
            {"role": "tool", "tool_call_id": "1", "content": "x"},
        ]
    )


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "text"}, "messages[0].content[0].text must be a string, got nothing"),
        ({"type": "thinking"}, "messages[0].content[0].thinking must be a string"),
        ({"type": "tool_use", "name": "f", "input": {}}, "messages[0].content[0].id must be a string"),
        ({"type": "tool_use", "id": "1", "input": {}}, "messages[0].content[0].name must be a string"),
        ({"type": "tool_use", "id": "1", "name": "f"}, "messages[0].content[0].input must be an object"),
        ({"type": "tool_result"}, "messages[0].content[0].tool_use_id must be a string"),
        (
            {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text"}]},
            "messages[0].content[0].content[0].text must be a string",
        ),
    ],
)
def test_a_wrong_part_of_an_anthropic_message_is_refused_by_its_place(part: Any, words: str) -> None:
    with pytest.raises(FieldRefusedError) as refused:
        check_anthropic({"messages": [user(part)]})
    assert refused.value.param == "messages" and words in refused.value.message


def test_a_wrong_part_of_the_system_prompt_is_refused_too() -> None:
    with pytest.raises(FieldRefusedError) as refused:
        check_anthropic({"messages": [{"role": "user", "content": "x"}], "system": [{"type": "text"}]})
    assert refused.value.param == "system" and "system[0].text" in refused.value.message


@pytest.mark.parametrize("kind", sorted(MEDIA))
def test_a_model_for_text_refuses_every_other_part(kind: str) -> None:
    with pytest.raises(FieldRefusedError) as refused:
        check_media({"messages": [user("x"), user({"type": "text", "text": "x"}, {"type": kind})]})
    assert refused.value.param == "messages"
    assert f"messages[1].content[1] is of type '{kind}', and this model reads only text" in refused.value.message


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"input": [user({"type": "input_image", "image_url": "x"})]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call_output", "output": [{"type": "input_image"}]}]}, "input[0].output[0]"),
        ({"messages": [user({"image_url": "x"})]}, "messages[0].content[0]"),
        (
            {"messages": [user({"type": "tool_result", "content": [{"type": "image"}]})]},
            "messages[0].content[0].content[0]",
        ),
    ],
)
def test_it_refuses_them_wherever_they_are(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(FieldRefusedError) as refused:
        check_media(fields)
    assert refused.value.message.startswith(place + " is of type")


def test_it_accepts_text() -> None:
    check_media({"messages": [user("x", {"type": "text", "text": "x"}, 5)], "system": "x", "input": "x"})


BEGUN = {"role": "assistant", "content": "The answer is"}


@pytest.mark.parametrize(
    ("last", "more", "param"),
    [
        ({**BEGUN, "content": "The answer is "}, {}, "messages"),
        ({**BEGUN, "content": ""}, {}, "messages"),
        ({**BEGUN, "content": []}, {}, "messages"),
        ({**BEGUN, "content": [{"type": "text", "text": "x\n"}]}, {}, "messages"),
        ({**BEGUN, "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]}, {}, "messages"),
        (BEGUN, {"tool_choice": {"type": "any"}}, "tool_choice"),
        (BEGUN, {"tool_choice": {"type": "tool", "name": "f"}}, "tool_choice"),
        (BEGUN, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        (BEGUN, {"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config"),
    ],
)
def test_words_that_no_answer_can_continue_are_refused(last: Any, more: dict[str, Any], param: str) -> None:
    with pytest.raises(FieldRefusedError) as refused:
        check_anthropic({"messages": [user({"type": "text", "text": "x"}), last], **more})
    assert refused.value.param == param


@pytest.mark.parametrize(
    "more", [{}, {"tools": [{}], "tool_choice": {"type": "auto"}}, {"thinking": {"type": "disabled"}}]
)
def test_other_words_of_the_assistant_are_continued(more: dict[str, Any]) -> None:
    check_anthropic({"messages": [BEGUN], **more})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"messages": [BEGUN]}, {}),
        ({"prompt": "x"}, {}),
        ({"messages": [BEGUN], "continue_final_message": False}, {}),
        ({"messages": [BEGUN], "continue_final_message": True}, {"add_generation_prompt": False}),
        ({"messages": [BEGUN], "continue_final_message": True, "add_generation_prompt": True}, {}),
        (
            {"messages": [{**BEGUN, "prefix": True}]},
            {"messages": [BEGUN], "continue_final_message": True, "add_generation_prompt": False},
        ),
        ({"messages": [{**BEGUN, "prefix": False}]}, {}),
    ],
)
def test_a_chat_that_asks_for_it_is_continued(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert continued(fields) == {**fields, **expected}


@pytest.mark.parametrize("messages", [[{**BEGUN, "prefix": True}, BEGUN], [{"role": "user", "prefix": True}]])
def test_a_prefix_elsewhere_is_refused(messages: list[Any]) -> None:
    with pytest.raises(FieldRefusedError, match=r"messages\[0\] has a prefix") as refused:
        continued({"messages": messages})
    assert refused.value.param == "messages"
