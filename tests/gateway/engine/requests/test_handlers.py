"""Bodies of every kind through vLLM's serving code, on a tiny model in a real vLLM."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.errors import InvalidInputError
from baker.types import SampleRequest
from gateway.engine import Engine, Handlers, Reply, StreamReply
from gateway.engine.core.serving import serving_state
from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from tests.gateway.engines import (
    MODEL_NAME,
    handlers_of,
    make_checkpoint,
    reply_to,
)

pytestmark = pytest.mark.anyio


CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "temperature": 0}


LONG: dict[str, Any] = CHAT | {"max_tokens": 400, "ignore_eos": True, "stream": True}


@pytest.fixture
def handlers(engine: Engine) -> Handlers:
    return handlers_of(engine)


async def ask(handlers: Handlers, fields: dict[str, Any], *, kind: Kind = kinds.CHAT, model: str = MODEL_NAME) -> Any:
    reply = await reply_to(handlers, kind, fields, model=model)
    assert isinstance(reply, Reply), "a stream was not expected"
    return reply.status, msgspec.json.decode(reply.body)


async def stream(handlers: Handlers, fields: dict[str, Any], *, kind: Kind = kinds.CHAT) -> list[Any]:
    reply = await reply_to(handlers, kind, {**fields, "stream": True})
    assert isinstance(reply, StreamReply)
    events = [event async for event in reply]
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") and b"\r" not in event for event in events)
    assert events[-1] == b"data: [DONE]\n\n"
    return [msgspec.json.decode(event.removeprefix(b"data: ")) for event in events[:-1]]


async def test_a_chat_is_answered(handlers: Handlers) -> None:
    status, answer = await ask(handlers, CHAT)
    assert status == 200
    assert answer["object"] == "chat.completion" and answer["model"] == MODEL_NAME
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] == 6


async def test_a_streamed_chat_has_the_same_text(handlers: Handlers) -> None:
    _, answer = await ask(handlers, CHAT)
    chunks = await stream(handlers, CHAT)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == answer["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


@pytest.fixture
async def reasoning(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Handlers:
    """Handlers of the same engine, as if it had been started with `--reasoning-parser deepseek_r1`."""
    process = engine._process
    assert process is not None
    monkeypatch.setattr(process.arguments.structured_outputs_config, "reasoning_parser", "deepseek_r1")
    monkeypatch.setattr(engine, "_state", await serving_state(process))
    return handlers_of(engine)


async def test_reasoning_is_separated_from_the_answer(reasoning: Handlers, engine: Engine) -> None:
    end_of_thought = engine.running().get_tokenizer().convert_tokens_to_ids("</think>")
    fields = CHAT | {"max_tokens": 40, "temperature": 1.0, "seed": 5, "logit_bias": {str(end_of_thought): 4.0}}
    ids = (await ask(reasoning, fields | {"return_token_ids": True}))[1]["choices"][0]["token_ids"]
    decode = engine.running().get_tokenizer().decode
    split = ids.index(end_of_thought)
    assert 0 < split < len(ids) - 1, "choose a seed with text on both sides"
    message = (await ask(reasoning, fields))[1]["choices"][0]["message"]
    assert message["reasoning"] == decode(ids[:split])
    incomplete = "\ufffd"  # a character without its last bytes, which streams hold back
    assert message["content"].rstrip(incomplete) == decode(ids[split + 1 :]).rstrip(incomplete) != ""
    deltas = [chunk["choices"][0]["delta"] for chunk in await stream(reasoning, fields)]
    assert "".join(delta.get("reasoning") or "" for delta in deltas) == message["reasoning"]
    assert "".join(delta.get("content") or "" for delta in deltas) == message["content"]


async def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(handlers: Handlers) -> None:
    chunks = await stream(handlers, CHAT | {"stream_options": {"include_usage": True}})
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 6
    assert all(chunk["choices"] for chunk in chunks[:-1])


async def test_a_completion_is_answered_and_streamed(handlers: Handlers) -> None:
    fields = {"prompt": "Hello", "max_tokens": 5, "temperature": 0}
    status, answer = await ask(handlers, fields, kind=kinds.COMPLETION)
    assert status == 200 and answer["object"] == "text_completion"
    chunks = await stream(handlers, fields, kind=kinds.COMPLETION)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == answer["choices"][0]["text"]


@pytest.mark.parametrize(
    "outputs",
    [{"regex": r"[^\s\S]"}, {"json": {"$ref": "#"}}, {"grammar": "root ::= root"}, {"regex": r"\p{No}\p{Such}"}],
    ids=["no text fits", "circular schema", "endless grammar", "unknown class"],
)
async def test_a_grammar_that_the_engine_cannot_compile_is_400(
    handlers: Handlers, engine: Engine, outputs: dict[str, Any]
) -> None:
    status, answer = await ask(handlers, CHAT | {"structured_outputs": outputs})
    assert (status, answer["error"]["param"]) == (400, "structured_outputs")
    context = await engine.generation.tokenise(CHAT["messages"])
    with pytest.raises(InvalidInputError):
        await engine.generation.sample(SampleRequest(context, max_tokens=6, extra={"structured_outputs": outputs}))
    assert (await ask(handlers, CHAT))[0] == 200, "the engine is alive"


async def test_an_adapter_answers_under_its_own_name(handlers: Handlers, engine: Engine, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    await engine.load(checkpoint.name, checkpoint.path)
    _, base = await ask(handlers, CHAT)
    status, answer = await ask(handlers, CHAT, model=checkpoint.name)
    assert status == 200 and answer["model"] == checkpoint.name
    assert answer["choices"][0]["message"]["content"] != base["choices"][0]["message"]["content"]
    assert engine.in_flight(checkpoint.name) == 0


ANSWERING: dict[Kind, dict[str, Any]] = {
    kinds.CHAT: CHAT,
    kinds.COMPLETION: {"prompt": "Hello", "max_tokens": 6, "temperature": 0},
    kinds.RESPONSES: {"input": "Hello", "max_output_tokens": 6, "temperature": 0},
    kinds.MESSAGES: CHAT,
}


KINDS = pytest.mark.parametrize("kind", ANSWERING, ids=lambda kind: kind.name)


@KINDS
async def test_every_kind_is_answered_by_the_adapter_and_releases_it(
    handlers: Handlers, engine: Engine, tmp_path: Path, kind: Kind
) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    await engine.load(checkpoint.name, checkpoint.path)
    whole = await reply_to(handlers, kind, ANSWERING[kind], model=checkpoint.name)
    base = await reply_to(handlers, kind, ANSWERING[kind])
    assert isinstance(whole, Reply) and isinstance(base, Reply)
    assert msgspec.json.decode(whole.body)["model"] == checkpoint.name
    assert text_of(whole.body) != text_of(base.body)
    streamed = await reply_to(handlers, kind, {**ANSWERING[kind], "stream": True}, model=checkpoint.name)
    assert isinstance(streamed, StreamReply) and engine.in_flight(checkpoint.name) == 1
    events = [event async for event in streamed]
    assert checkpoint.name.encode() in events[0] and all(event.endswith(b"\n\n") for event in events)
    assert engine.in_flight(checkpoint.name) == 0


def text_of(body: bytes) -> str:
    """The text of an answer of any kind."""
    answer = msgspec.json.decode(body)
    if "output" in answer:
        return str(answer["output"][0]["content"])
    first = answer["choices"][0] if "choices" in answer else answer["content"][0]
    return str(first["message"]["content"] if "message" in first else first["text"])


@KINDS
async def test_a_stream_whose_grammar_fails_is_refused_before_it_begins(
    handlers: Handlers, engine: Engine, kind: Kind
) -> None:
    """A circular schema: xgrammar refuses it only when it compiles it, in the engine."""
    schema = {"$ref": "#"}
    field, value = {
        kinds.RESPONSES: ("text", {"format": {"type": "json_schema", "name": "x", "schema": schema}}),
        kinds.MESSAGES: ("output_config", {"format": {"type": "json_schema", "schema": schema}}),
    }.get(kind, ("structured_outputs", {"json": schema}))
    fields = {**ANSWERING[kind], "stream": True, field: value}
    reply = await reply_to(handlers, kind, fields)
    assert isinstance(reply, Reply) and reply.status == 400
    error = msgspec.json.decode(reply.body)["error"]
    assert error["message"].startswith(field) and error.get("param", field) == field
    assert engine.running().get_num_unfinished_requests() == 0


@KINDS
async def test_an_error_within_a_stream_has_the_familys_shape_and_ends_the_stream(
    handlers: Handlers, engine: Engine, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaking(*_: Any) -> AsyncIterator[str]:
        yield "event: first\ndata: {}\n\n"
        raise RuntimeError("a secret of the engine")

    async def answer(*_: Any) -> Any:
        return breaking()

    monkeypatch.setattr(kinds, "answer", answer)
    monkeypatch.setattr(kinds, "events", lambda kind, result, usage: result)
    reply = await reply_to(handlers, kind, {**ANSWERING[kind], "stream": True})
    assert isinstance(reply, StreamReply)
    _, last = [event.decode() async for event in reply]
    if kind.framing == "openai":
        assert last.startswith('data: {"error":{"message":') and last.endswith("data: [DONE]\n\n")
    else:
        assert last.startswith("event: error\ndata: {") and '"type":"error"' in last


async def test_a_seed_repeats_every_answer_of_a_prompt_in_chunks(handlers: Handlers) -> None:
    """A seed on a prompt that was split killed vLLM's CPU engine."""
    fields = {**CHAT, "messages": [{"role": "user", "content": "word " * 60}], "temperature": 1, "n": 3}

    async def answers(seed: int) -> list[str]:
        _, answer = await ask(handlers, fields | {"seed": seed})
        return [choice["message"]["content"] for choice in answer["choices"]]

    first = await answers(1)
    assert len(set(first)) == 3
    assert await answers(1) == first != await answers(2)


async def test_a_model_that_is_not_loaded_is_404(handlers: Handlers) -> None:
    status, answer = await ask(handlers, CHAT, model="admin/repo/nothing/1")
    assert status == 404
    assert answer["error"]["param"] == "model" and answer["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": []}, None),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 0, "stream": True}, "max_tokens"),
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 65, "logprobs": True}, None),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"chat_template": "{{ 1 }}"}, None),
        ({"chat_template_kwargs": {"conversation": []}}, None),
        ({"messages": [{"role": "villain", "content": "Hello"}]}, None),
        ({"messages": [{"role": "user", "content": "x" * 600}]}, None),
        ({"messages": [{"role": "user", "content": "x" * 600}], "stream": True}, None),
        ({"tools": []}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
async def test_a_bad_request_is_400_and_names_the_field(
    handlers: Handlers, engine: Engine, fields: dict[str, Any], param: str | None
) -> None:
    status, answer = await ask(handlers, CHAT | fields)
    assert status == 400, answer
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    assert "Traceback" not in error["message"]
    if param is not None:
        assert error["param"] == param or param in error["message"]
    assert engine.is_ready


async def test_unknown_fields_are_ignored(handlers: Handlers) -> None:
    status, _ = await ask(handlers, CHAT | {"store": True, "something_new": {"a": 1}})
    assert status == 200


async def test_headers_that_jump_the_queue_do_not_reach_vllm(handlers: Handlers) -> None:
    """With such a header vLLM would answer 400, because priorities are off."""
    headers = {"x-vllm-priority": "-5", "x-data-parallel-rank": "1", "x-request-id": "mine"}
    reply = await reply_to(handlers, kinds.CHAT, CHAT, headers=headers)
    assert reply.status == 200
    assert msgspec.json.decode(reply.body)["id"] == "chatcmpl-mine"


@KINDS
async def test_a_cancelled_request_stays_cancelled(handlers: Handlers, engine: Engine, kind: Kind) -> None:
    """vLLM turns the cancellation into an answer, "Client disconnected"."""
    fields = {**LONG, **ANSWERING[kind], "stream": False, "max_tokens": 400, "max_output_tokens": 400}
    task = asyncio.create_task(reply_to(handlers, kind, fields))
    while engine.running().get_num_unfinished_requests() == 0:  # noqa: ASYNC110 - vLLM's count
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.running().get_num_unfinished_requests() == 0


BLOCK = 128
"""Tokens in a block of the cache on a CPU."""
CACHED = {
    kinds.CHAT: ("prompt_tokens_details", "cached_tokens"),
    kinds.COMPLETION: ("prompt_tokens_details", "cached_tokens"),
    kinds.RESPONSES: ("input_tokens_details", "cached_tokens"),
    kinds.MESSAGES: ("cache_read_input_tokens",),
}


@KINDS
async def test_tokens_from_the_cache_are_counted_for_each_adapter(
    handlers: Handlers, engine: Engine, tmp_path: Path, kind: Kind
) -> None:
    """Only an equal prompt of the same model may be read from the cache, in whole blocks."""
    checkpoint = make_checkpoint(tmp_path, 1)
    await engine.load(checkpoint.name, checkpoint.path)
    prompt = f"{kind.name} {checkpoint.name} " + "word " * 40
    fields = {**ANSWERING[kind], "prompt": prompt, "input": prompt, "messages": [{"role": "user", "content": prompt}]}
    if kind is kinds.RESPONSES:
        del fields["messages"], fields["prompt"]

    async def usage(model: str) -> tuple[int, int]:
        """Tokens of the prompt, and those of them that came from the cache."""
        counts = (await ask(handlers, fields, kind=kind, model=model))[1]["usage"]
        cached = counts
        for name in CACHED[kind]:
            cached = cached[name]
        if kind is kinds.MESSAGES:  # its input_tokens leave out those from the cache
            return counts["input_tokens"] + cached, cached
        return counts.get("prompt_tokens") or counts["input_tokens"], cached

    first = [await usage(model) for model in (MODEL_NAME, checkpoint.name)]
    again = [await usage(model) for model in (MODEL_NAME, checkpoint.name)]
    total = first[0][0]
    assert first == [(total, 0)] * 2
    assert again == [(total, (total - 1) // BLOCK * BLOCK)] * 2 and total > BLOCK


@pytest.mark.parametrize("kind", [kinds.CHAT, kinds.TOKENIZE, kinds.MESSAGES, kinds.COUNT_TOKENS], ids=lambda k: k.name)
async def test_an_image_for_a_text_model_is_refused_by_its_place(handlers: Handlers, kind: Kind) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}
    if kind.shape == "anthropic":
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}}  # type: ignore[dict-item]
    fields = {**CHAT, "messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}]}
    status, answer = await ask(handlers, fields, kind=kind)
    assert status == 400 and answer["error"].get("param", "messages") == "messages"
    assert answer["error"]["message"].startswith(f"messages[0].content[1] is of type '{image['type']}'")
