"""What the baker asks of the engine, on a tiny model in a real vLLM."""

import asyncio
import itertools
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from baker.errors import InvalidInputError
from baker.repos.rendering import rendering_warnings
from baker.types import Prompt, Sample, SampleRequest, StopReason
from gateway.engine import Engine
from gateway.engine.core.generation import PROBE_TOOL, Generation
from gateway.engine.requests import kinds
from tests.gateway.engines import (
    HELLO,
    WINDOW,
    greedy,
    handlers_of,
    make_checkpoint,
    reply_to,
    until_working,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "f", "parameters": {}}}]])
async def test_tokenise_gives_what_serving_renders(engine: Engine, tools: list[dict[str, Any]] | None) -> None:
    fields: dict[str, Any] = {"messages": HELLO, "max_tokens": 1, "return_token_ids": True}
    if tools:
        fields |= {"tools": tools, "tool_choice": "none"}
    reply = await reply_to(handlers_of(engine), kinds.CHAT, fields)

    assert msgspec.json.decode(reply.body)["prompt_token_ids"] == await engine.generation.tokenise(HELLO, tools)


async def test_a_chat_that_the_template_refuses_is_invalid_input(engine: Engine) -> None:
    with pytest.raises(InvalidInputError, match="unknown role: villain"):
        await engine.generation.tokenise([{"role": "villain", "content": "Hello"}])


async def test_messages_that_no_window_holds_are_refused_before_they_are_rendered() -> None:
    engine: Any = SimpleNamespace(max_model_len=10)  # it can't render
    for messages in ([{"role": "user", "content": "x" * 2561}], [{"role": "user", "content": "x" * 1300}] * 2):
        with pytest.raises(InvalidInputError, match="characters, too many for a window of 10 tokens"):
            await Generation(engine).tokenise(messages)


async def test_a_prompt_is_judged_by_the_model_s_own_template(engine: Engine) -> None:
    tools = [PROBE_TOOL]
    known = Prompt(messages=[{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}], tools=tools)
    assert await rendering_warnings(engine.generation, known) == []
    for role in ("wizard", "System"):
        with pytest.raises(InvalidInputError, match=f"unknown role: {role}"):
            await rendering_warnings(engine.generation, Prompt(messages=[{"role": role, "content": "Hi"}]))


async def test_tool_calls_and_results_of_a_conversation_are_rendered(engine: Engine) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "clock"}'}}
    chat = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "five past two"},
        {"role": "user", "content": "Thanks"},
    ]
    text = engine.running().get_tokenizer().decode(await engine.generation.tokenise(chat))
    assert [part in text for part in ("look", "clock", "five past two", "Thanks")] == [True] * 4


async def test_a_greedy_sample_is_the_likeliest_token_each_time(engine: Engine) -> None:
    sample = await greedy(engine, top_logprobs=64)
    assert sample.top_ids_TK.shape == sample.top_logprobs_TK.shape == (12, 64)
    assert sample.top_ids_TK.dtype == np.int32 and sample.top_logprobs_TK.dtype == np.float32
    assert sample.top_ids_TK[:, 0].tolist() == sample.response_ids
    assert np.all(np.diff(sample.top_logprobs_TK, axis=1) <= 0)
    assert all(len(set(row)) == 64 for row in sample.top_ids_TK.tolist())
    assert np.all(np.exp(sample.top_logprobs_TK).sum(axis=1) <= 1.001)
    assert sample.stop_reason is StopReason.LENGTH


async def test_a_sampled_token_outside_the_top_is_not_among_the_top(engine: Engine) -> None:
    sample = await greedy(engine, temperature=2.0, seed=3, top_logprobs=2, max_tokens=64)
    unlikely = [i for i, token in enumerate(sample.response_ids) if token not in sample.top_ids_TK[i]]
    assert unlikely and sample.top_ids_TK.shape == (64, 2)
    reference = await engine.score(
        await engine.generation.tokenise([{"role": "user", "content": "Hello"}]), sample.response_ids
    )
    for i in unlikely:
        assert reference[i] < sample.top_logprobs_TK[i, -1]


async def test_without_top_logprobs_the_distribution_is_empty(engine: Engine) -> None:
    sample = await greedy(engine)
    assert sample.top_ids_TK.shape == sample.top_logprobs_TK.shape == (12, 0)
    assert len(sample.text) > 0


async def test_the_end_of_turn_token_belongs_to_the_response(engine: Engine) -> None:
    end = engine.running().get_tokenizer().eos_token_id
    sample = await greedy(engine, extra={"logit_bias": {str(end): 100.0}}, top_logprobs=4)
    assert sample.response_ids == [end]
    assert sample.stop_reason is StopReason.STOP
    assert sample.text == ""
    assert sample.top_ids_TK.shape == (1, 4)


async def test_a_stop_string_ends_the_answer_before_it(engine: Engine) -> None:
    whole = await greedy(engine, extra={"ignore_eos": True})
    stop = whole.text[len(whole.text) // 2 :][:2]
    assert len(stop) == 2
    stopped = await greedy(engine, extra={"ignore_eos": True, "stop": stop})
    assert stopped.stop_reason is StopReason.STOP
    assert stopped.text == whole.text[: whole.text.index(stop)]


async def test_the_answer_is_cut_where_the_window_ends(engine: Engine) -> None:
    request = SampleRequest([70] * (WINDOW - 5), max_tokens=1000, extra={"ignore_eos": True})
    sample = await engine.generation.sample(request)
    assert len(sample.response_ids) == 5
    assert sample.stop_reason is StopReason.LENGTH


async def test_a_context_that_fills_the_window_is_invalid_input(engine: Engine) -> None:
    with pytest.raises(InvalidInputError, match=f"{WINDOW} tokens"):
        await engine.generation.sample(SampleRequest([70] * WINDOW))
    with pytest.raises(InvalidInputError, match="can't be scored"):
        await engine.score([70] * (WINDOW - 1), [70])


async def test_a_seed_makes_answers_repeat_even_if_the_prompt_is_split(engine: Engine) -> None:
    """This killed vLLM's CPU engine: "CPU Generator does not use offset"."""
    text = "word " * 60  # 300 tokens, in chunks of 128
    first, second, other = [await greedy(engine, text=text, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert first.response_ids == second.response_ids != other.response_ids


async def test_an_answer_is_heard_while_it_is_written_and_is_the_same(engine: Engine) -> None:
    ids = await engine.generation.tokenise(HELLO)
    request = SampleRequest(context_ids=ids, max_tokens=64, temperature=1.0, seed=5, extra={"ignore_eos": True})
    heard: list[str] = []
    streamed = await engine.generation.sample(request, heard.append)
    assert (streamed.response_ids, streamed.text) == (
        (whole := await engine.generation.sample(request)).response_ids,
        whole.text,
    )
    assert heard[0] != streamed.text and streamed.text.startswith(heard[-1])
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(heard))


async def test_a_cancelled_sample_leaves_nothing_running(engine: Engine) -> None:
    task = asyncio.create_task(greedy(engine, max_tokens=400))
    await until_working(engine)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.running().get_num_unfinished_requests() == 0


async def test_score_agrees_with_the_distribution_that_was_sampled_from(engine: Engine) -> None:
    sample = await greedy(engine, top_logprobs=8)
    context = await engine.generation.tokenise([{"role": "user", "content": "Hello"}])
    assert await engine.score(context, sample.response_ids) == pytest.approx(
        sample.top_logprobs_TK[:, 0].tolist(), abs=0.05
    )


async def test_the_distribution_of_a_given_response_equals_the_sampled_one(engine: Engine, tmp_path: Path) -> None:
    context = await engine.generation.tokenise([{"role": "user", "content": "Hello"}])
    for adapter in (None, make_checkpoint(tmp_path, 3)):
        sample = await greedy(engine, adapter, top_logprobs=8)
        judged = await engine.generation.distribution(context, sample.response_ids, 8, adapter)
        assert judged.top_ids_TK.shape == judged.top_logprobs_TK.shape == (12, 8)
        assert judged.top_logprobs_TK == pytest.approx(sample.top_logprobs_TK, abs=0.05)
        assert (judged.top_ids_TK[:, 0] == sample.top_ids_TK[:, 0]).all()
    with pytest.raises(InvalidInputError, match="can't be scored"):
        await engine.generation.distribution([70] * WINDOW, [70], 8, None)


async def test_a_shared_prefix_of_prompts_is_computed_once(engine: Engine) -> None:
    def hits() -> float:
        (value,) = re.findall(rb"^vllm:prefix_cache_hits_total{.*} (.*)$", engine.metrics(), re.MULTILINE)
        return float(value)

    shared = random.choices(range(70, 120), k=300)
    before = hits()
    for last in (70, 71):
        await engine.generation.sample(SampleRequest([*shared, last], max_tokens=2))
    assert before + 200 <= hits() <= before + 300


async def test_tool_calls_are_read_out_of_an_answer(engine: Engine) -> None:
    tokenizer = engine.running().get_tokenizer()
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]

    def answer(text: str) -> Sample:
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        nothing = np.zeros((len(ids), 0))
        return Sample(ids, text, StopReason.STOP, nothing.astype(np.int32), nothing.astype(np.float32))

    called = engine.generation.read_answer(
        answer('Wait. <tool_call>{"name": "look", "arguments": {"at": "it"}}</tool_call>'), tools
    )
    assert (called.content or "").strip() == "Wait."
    assert called.tool_calls[0]["type"] == "function"
    assert called.tool_calls[0]["function"] == {"name": "look", "arguments": '{"at": "it"}'}
    for text in ("No call.", "<tool_call>{broken"):
        plain = engine.generation.read_answer(answer(text), tools)
        assert (plain.content, plain.tool_calls) == (text, [])
    assert engine.generation.read_answer(answer("<tool_call>{}"), None).content == "<tool_call>{}", (
        "there are no tools to call"
    )


async def test_logprobs_of_a_response_agree_with_its_distribution(engine: Engine, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 12)
    ids = await engine.generation.tokenise(HELLO)
    response = engine.generation.encode("So be it")
    for adapter in (None, checkpoint):
        logprobs = await engine.generation.logprobs(ids, response, adapter)
        whole = await engine.generation.distribution(ids, response, 20, adapter)
        known = [
            (logprob, dict(zip(top_ids.tolist(), top.tolist(), strict=True))[token])
            for logprob, token, top_ids, top in zip(
                logprobs, response, whole.top_ids_TK, whole.top_logprobs_TK, strict=True
            )
            if token in top_ids
        ]
        assert [ours for ours, _ in known] == pytest.approx([theirs for _, theirs in known])
    assert len(response) == len("So be it"), "nothing is added, and this tokenizer has a token for each byte"


async def test_texts_of_tokens_make_the_text_even_where_a_character_takes_several(engine: Engine) -> None:
    generation, text = engine.generation, "Oh là, ¿qué? 世界 👩‍🚀 \x1b[31m"
    ids = generation.encode(text)
    texts = generation.token_texts(ids)
    assert len(texts) == len(ids) == len(text.encode())
    assert "".join(texts) == text
    assert texts[4:6] == ["", "à"], "a character appears with its last byte"
    (end,) = generation.encode("<|im_end|>")
    assert generation.token_texts([*ids[:2], end]) == ["O", "h", "<|im_end|>"]
    assert generation.token_texts([]) == []
    assert generation.token_texts(ids[4:5]) == ["\ufffd"], "one that is never completed"
