"""Conversations that end with the assistant's words."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.engine import Engine, Reply, StreamReply
from gateway.engine.patches import prefill
from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from tests.gateway.engines import handlers_of, reply_to

pytestmark = pytest.mark.anyio

USER = {"role": "user", "content": "Hello"}
BEGUN = {"role": "assistant", "content": "The answer is"}
OPEN_PROMPT = "<|im_start|>userHello<|im_end|>\n<|im_start|>assistantThe answer is"
"""As the tiny model's chat template writes it."""


async def ask(engine: Engine, kind: Kind, fields: dict[str, Any]) -> tuple[int, Any]:
    reply = await reply_to(handlers_of(engine), kind, fields)
    assert isinstance(reply, Reply)
    return reply.status, msgspec.json.decode(reply.body)


async def continuation(engine: Engine) -> str:
    """What the model writes after the open prompt, from the completions API."""
    fields = {"prompt": OPEN_PROMPT, "max_tokens": 8, "temperature": 0, "add_special_tokens": False}
    return str((await ask(engine, kinds.COMPLETION, fields))[1]["choices"][0]["text"])


@pytest.mark.parametrize("content", ["The answer is", [{"type": "text", "text": "The answer is"}]])
async def test_an_anthropic_message_continues_the_assistants_words(engine: Engine, content: Any) -> None:
    messages = [USER, {"role": "assistant", "content": content}]
    fields = {"messages": messages, "max_tokens": 8, "temperature": 0}
    _, message = await ask(engine, kinds.MESSAGES, fields)
    assert message["content"][0]["text"] == await continuation(engine)
    tokens = len(engine.running().get_tokenizer().encode(OPEN_PROMPT, add_special_tokens=False))
    usage = message["usage"]
    assert usage["input_tokens"] + (usage.get("cache_read_input_tokens") or 0) == tokens
    _, counted = await ask(engine, kinds.COUNT_TOKENS, {"messages": messages})
    assert counted["input_tokens"] == tokens
    stream = await reply_to(handlers_of(engine), kinds.MESSAGES, {**fields, "stream": True})
    assert isinstance(stream, StreamReply)
    events = [msgspec.json.decode(event.partition(b"data: ")[2]) async for event in stream]
    assert "".join(event.get("delta", {}).get("text", "") for event in events) == message["content"][0]["text"]


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (BEGUN, {"continue_final_message": True}),
        (BEGUN, {"continue_final_message": True, "add_generation_prompt": False}),
        ({**BEGUN, "prefix": True}, {}),
    ],
)
async def test_a_chat_is_continued_if_it_asks_for_that(
    engine: Engine, begun: dict[str, Any], more: dict[str, Any]
) -> None:
    fields = {"messages": [USER, begun], "max_tokens": 8, "temperature": 0, **more}
    _, chat = await ask(engine, kinds.CHAT, fields)
    assert chat["choices"][0]["message"]["content"] == await continuation(engine)
    _, tokens = await ask(engine, kinds.TOKENIZE, {"messages": [USER, begun], **more})
    assert tokens["count"] == chat["usage"]["prompt_tokens"]


async def test_a_response_continues_an_incomplete_item(engine: Engine) -> None:
    item = {"type": "message", "id": "m", "role": "assistant", "status": "incomplete", "content": [
        {"type": "output_text", "text": "The answer is", "annotations": []}]}  # fmt: skip
    fields = {"input": [USER, item], "max_output_tokens": 8, "temperature": 0}
    _, response = await ask(engine, kinds.RESPONSES, fields)
    assert response["output"][0]["content"][0]["text"] == await continuation(engine)


async def test_a_model_that_reasons_refuses(engine: Engine) -> None:
    from vllm.exceptions import VLLMValidationError

    chat = SimpleNamespace(messages=[USER, BEGUN], continue_final_message=False, add_generation_prompt=True)
    serving = SimpleNamespace(
        parser_cls=SimpleNamespace(reasoning_parser_cls=object), to_chat_completion_request=lambda request: chat
    )
    prefill.install(serving)
    with pytest.raises(VLLMValidationError, match="reasons can't continue"):
        serving.to_chat_completion_request(None)
    chat.messages = [USER]
    assert serving.to_chat_completion_request(None) is chat and chat.add_generation_prompt
    prefill.install(None)
