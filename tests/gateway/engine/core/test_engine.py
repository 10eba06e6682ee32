"""The engine, on a tiny model in a real vLLM."""

import asyncio
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from baker.errors import AdapterError, EngineError, InvalidInputError, NotFoundError
from baker.types import Checkpoint, Sample, SampleRequest, StopReason
from gateway.engine import Engine, EngineSettings
from gateway.engine.core import sleep
from gateway.engine.core.canary import Answer, Canary
from gateway.engine.core.process import EngineProcess
from gateway.engine.core.tools import DEFAULT_PARSER, MARKS
from gateway.engine.requests import kinds
from gateway.errors import CanaryError
from tests.gateway.engines import MODEL_NAME, WINDOW, handlers_of, make_adapter, make_checkpoint, reply_to

pytestmark = pytest.mark.anyio

CHAT = [{"role": "user", "content": "Hello, who are you?"}]


async def greedy(engine: Engine, adapter: Checkpoint | None = None, text: str = "Hello", **settings: Any) -> Sample:
    ids = await engine.generation.tokenise([{"role": "user", "content": text}])
    fields = {"max_tokens": 12, "temperature": 0.0, "extra": {"ignore_eos": True}} | settings
    return await engine.generation.sample(SampleRequest(ids, adapter=adapter, **fields))


async def until_working(engine: Engine) -> None:
    while engine.running().get_num_unfinished_requests() == 0:  # noqa: ASYNC110 - vLLM's count
        await asyncio.sleep(0)


async def test_it_is_the_base_model_that_the_settings_name(engine: Engine, tiny_model: Path) -> None:
    assert (engine.name, engine.path, engine.max_lora_rank) == (MODEL_NAME, tiny_model, 16)
    assert engine.is_ready and not engine.is_dead
    assert engine.max_model_len == WINDOW
    assert engine.generation.renders_tools
    await engine.wait_ready()


@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "f", "parameters": {}}}]])
async def test_tokenise_gives_what_serving_renders(engine: Engine, tools: list[dict[str, Any]] | None) -> None:
    fields: dict[str, Any] = {"messages": CHAT, "max_tokens": 1, "return_token_ids": True}
    if tools:
        fields |= {"tools": tools, "tool_choice": "none"}
    reply = await reply_to(handlers_of(engine), kinds.CHAT, fields)

    assert msgspec.json.decode(reply.body)["prompt_token_ids"] == await engine.generation.tokenise(CHAT, tools)


async def test_a_chat_that_the_template_refuses_is_invalid_input(engine: Engine) -> None:
    with pytest.raises(InvalidInputError, match="unknown role: villain"):
        await engine.generation.tokenise([{"role": "villain", "content": "Hello"}])


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


async def test_score_agrees_with_the_distribution_that_was_sampled_from(engine: Engine) -> None:
    sample = await greedy(engine, top_logprobs=8)
    context = await engine.generation.tokenise([{"role": "user", "content": "Hello"}])
    assert await engine.score(context, sample.response_ids) == pytest.approx(
        sample.top_logprobs_TK[:, 0].tolist(), abs=0.05
    )


async def test_a_response_is_judged_as_if_it_had_been_sampled_so(engine: Engine, tmp_path: Path) -> None:
    context = await engine.generation.tokenise([{"role": "user", "content": "Hello"}])
    for adapter in (None, make_checkpoint(tmp_path, 3)):
        sample = await greedy(engine, adapter, top_logprobs=8)
        judged = await engine.generation.distribution(context, sample.response_ids, 8, adapter)
        assert judged.top_ids_TK.shape == judged.top_logprobs_TK.shape == (12, 8)
        assert judged.top_logprobs_TK == pytest.approx(sample.top_logprobs_TK, abs=0.05)
        assert (judged.top_ids_TK[:, 0] == sample.top_ids_TK[:, 0]).all()
    with pytest.raises(InvalidInputError, match="can't be scored"):
        await engine.generation.distribution([70] * WINDOW, [70], 8, None)


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


async def test_vllm_knows_every_parser_that_a_template_may_choose(engine: Engine) -> None:
    from vllm.tool_parsers import ToolParserManager

    assert {*MARKS.values(), DEFAULT_PARSER} <= set(ToolParserManager.list_registered())


async def test_a_conversation_with_tool_calls_and_results_is_rendered_whole(engine: Engine) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "clock"}'}}
    chat = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "five past two"},
        {"role": "user", "content": "Thanks"},
    ]
    text = engine.running().get_tokenizer().decode(await engine.generation.tokenise(chat))
    assert [part in text for part in ("look", "clock", "five past two", "Thanks")] == [True] * 4


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


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"extra": {"top_p": 3.0}}, "top_p"),
        ({"extra": {"top_p": "high"}}, "top_p"),
        ({"extra": {"frequency_penalty": 9}}, "frequency_penalty"),
        ({"extra": {"stop": [1]}}, "stop"),
        ({"extra": {"logit_bias": {"99999999": 1.0}}}, "logit_bias"),
        ({"extra": {"n": 2}}, "'n'"),
        ({"extra": {"chat_template_kwargs": {}}}, "chat_template_kwargs"),
        ({"extra": {"extra_body": {"nonsense": 1}}}, "nonsense"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_logprobs": 65}, "max_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_a_setting_that_is_refused_is_named(engine: Engine, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        await greedy(engine, **settings)
    assert engine.is_ready


async def test_a_seed_makes_answers_repeat_even_if_the_prompt_is_split(engine: Engine) -> None:
    """vLLM's CPU engine died of it: "CPU Generator does not use offset"."""
    text = "word " * 60  # 300 tokens, in chunks of 128
    first, second, other = [await greedy(engine, text=text, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert first.response_ids == second.response_ids != other.response_ids


async def test_a_cancelled_sample_leaves_nothing_running(engine: Engine) -> None:
    task = asyncio.create_task(greedy(engine, max_tokens=400))
    await until_working(engine)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.running().get_num_unfinished_requests() == 0


async def test_an_adapter_answers_for_itself_and_the_base_for_itself(engine: Engine, tmp_path: Path) -> None:
    one, two = make_checkpoint(tmp_path, 1), make_checkpoint(tmp_path, 2)
    alone = [await greedy(engine, adapter) for adapter in (None, one, two)]
    assert len({tuple(sample.response_ids) for sample in alone}) == 3
    mixed = await asyncio.gather(*(greedy(engine, adapter, top_logprobs=1) for adapter in (None, one, two) * 3))
    for sample, adapter_alone in zip(mixed, alone * 3, strict=True):
        assert sample.response_ids == adapter_alone.response_ids


async def test_an_adapter_of_nan_is_refused(engine: Engine, tmp_path: Path) -> None:
    """What it left in the key-value cache made later answers of the base model token 0, too."""
    path = make_adapter(tmp_path / "adapter", 1, spoil=float("nan"))
    with pytest.raises(AdapterError, match="not finite"):
        await engine.load("admin/repo/nan/1", path)


@pytest.mark.parametrize("scale", [0.03, 0.3])
async def test_an_adapter_is_served_as_peft_computes_it(
    engine: Engine, tiny_model: Path, tmp_path: Path, scale: float
) -> None:
    checkpoint = make_checkpoint(tmp_path, 1, scale=scale)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, checkpoint.path).eval()
    context, response = list(range(70, 90)), list(range(100, 140))
    served = await engine.generation.distribution(context, response, 64, checkpoint)
    ids_TK = torch.from_numpy(served.top_ids_TK).long()

    def logprobs() -> torch.Tensor:
        with torch.no_grad():
            logits_TV = model(torch.tensor([context + response])).logits[0, len(context) - 1 : -1]
        return logits_TV.log_softmax(-1).gather(-1, ids_TK)

    expected_TK, served_TK = logprobs(), torch.from_numpy(served.top_logprobs_TK)
    with model.disable_adapter():
        base_TK = logprobs()
    effect_TK = expected_TK - base_TK
    assert effect_TK.abs().mean() > 0.4
    assert (served_TK - expected_TK).abs().mean() < 0.1, "as bfloat16 rounds"
    strength = ((served_TK - base_TK) * effect_TK).sum() / effect_TK.square().sum()
    assert strength == pytest.approx(1.0, abs=0.03)


async def test_what_prompts_begin_with_alike_is_read_once(engine: Engine) -> None:
    def hits() -> float:
        (found,) = re.findall(rb"^vllm:prefix_cache_hits_total{.*} (.*)$", engine.metrics(), re.MULTILINE)
        return float(found)

    shared = random.choices(range(70, 120), k=300)
    before = hits()
    for last in (70, 71):
        await engine.generation.sample(SampleRequest([*shared, last], max_tokens=2))
    assert before + 200 <= hits() <= before + 300


async def test_prompts_are_scored_while_adapters_answer(engine: Engine, tmp_path: Path) -> None:
    """The engine died when more requests with adapters were in the batch than the prompt has tokens."""
    checkpoint = make_checkpoint(tmp_path, 1)
    alone = (
        await engine.score([70, 71], [72], None),
        await engine.generation.distribution([70], [71, 72], 4, checkpoint),
    )
    answers = [asyncio.create_task(greedy(engine, checkpoint, max_tokens=60)) for _ in range(8)]
    while engine.running().get_num_unfinished_requests() < len(answers):  # noqa: ASYNC110 - vLLM's count
        await asyncio.sleep(0)
    for _ in range(5):
        assert await engine.score([70, 71], [72], None) == pytest.approx(alone[0], abs=1e-2)
        beside = await engine.generation.distribution([70], [71, 72], 4, checkpoint)
        assert beside.top_logprobs_TK == pytest.approx(alone[1].top_logprobs_TK, abs=0.05)
    assert not all(answer.done() for answer in answers)
    assert len({tuple(sample.response_ids) for sample in await asyncio.gather(*answers)}) == 1


async def test_more_adapters_than_slots_take_turns(engine: Engine, tmp_path: Path) -> None:
    checkpoints = [make_checkpoint(tmp_path, step) for step in range(6)]
    alone = [(await greedy(engine, checkpoint)).response_ids for checkpoint in checkpoints]
    together = await asyncio.gather(*(greedy(engine, checkpoint) for checkpoint in checkpoints))
    assert [sample.response_ids for sample in together] == alone


async def test_callers_of_one_adapter_share_its_load(engine: Engine, tmp_path: Path) -> None:
    path = make_adapter(tmp_path / "adapter", 1)
    before = next(engine._adapter_ids)
    await asyncio.gather(*(engine.load("admin/repo/shared/1", path) for _ in range(5)))
    assert engine.is_loaded("admin/repo/shared/1")
    assert next(engine._adapter_ids) == before + 2  # one for the adapter, one for this look
    with pytest.raises(AdapterError, match="already loaded"):
        await engine.load("admin/repo/shared/1", tmp_path)


def _without_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def _with_broken_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"garbage")


def _without_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


@pytest.mark.parametrize("damage", [_without_weights, _with_broken_weights, _without_config])
async def test_a_broken_adapter_is_refused_and_the_engine_lives(engine: Engine, tmp_path: Path, damage: Any) -> None:
    path = make_adapter(tmp_path / "adapter", 1)
    damage(path)
    with pytest.raises(AdapterError, match="admin/repo/broken/1"):
        await engine.load("admin/repo/broken/1", path)
    assert not engine.is_loaded("admin/repo/broken/1")
    with pytest.raises(NotFoundError):
        await engine.lease("admin/repo/broken/1")
    assert (await greedy(engine)).response_ids


async def test_patterns_and_rslora_are_served_as_peft_means_them(engine: Engine, tmp_path: Path) -> None:
    """The same update written in two ways: q_proj of half the rank by a pattern, or with zeros in its place."""
    plain, foreign = (make_adapter(tmp_path / name, 1, rank=8, scale=0.1) for name in ("plain", "foreign"))
    tensors, half = load_file(plain / "adapter_model.safetensors"), {}
    for name, tensor in tensors.items():
        half[name] = tensor
        if "q_proj.lora_A" in name:
            half[name] = tensor[:4].clone()
            tensor[4:] = 0
        elif "q_proj.lora_B" in name:
            half[name] = tensor[:, :4].clone()
            tensor[:, 4:] = 0
    save_file(tensors, plain / "adapter_model.safetensors")
    save_file(half, foreign / "adapter_model.safetensors")
    config = json.loads((plain / "adapter_config.json").read_text())
    config |= {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 2}, "use_rslora": True, "lora_alpha": 8**0.5}
    (foreign / "adapter_config.json").write_text(json.dumps(config))
    scores = []
    for path in (plain, foreign):
        await engine.load(f"admin/{tmp_path.name}/{path.name}/1", path)
        scores.append(await engine.score([70], list(range(70, 80)), f"admin/{tmp_path.name}/{path.name}/1"))
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    assert scores[0] != pytest.approx(await engine.score([70], list(range(70, 80))), abs=0.1)


async def test_a_rank_above_the_engines_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = make_adapter(tmp_path / "adapter", 1, rank=32)
    with pytest.raises(AdapterError, match="rank 32 is above the engine's maximum of 16"):
        await engine.load("admin/repo/wide/1", path)


async def test_unload_waits_for_the_last_request(engine: Engine, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    await engine.load(checkpoint.name, checkpoint.path)
    lease = await engine.lease(checkpoint.name)
    assert lease.adapter is not None
    number = lease.adapter.number
    unloading = asyncio.create_task(engine.unload(checkpoint.name))
    await asyncio.sleep(0.05)
    assert not unloading.done() and not engine.is_loaded(checkpoint.name)
    with pytest.raises(NotFoundError):
        await engine.score([70], [71], checkpoint.name)
    lease.release()
    lease.release()
    await unloading
    assert number not in await engine.running().list_loras()


async def test_files_that_vanished_are_an_error_and_not_the_engines_end(engine: Engine, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    await greedy(engine, checkpoint)
    (checkpoint.path / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match="gone"):
        await greedy(engine, checkpoint)
    await engine.unload(checkpoint.name)
    assert engine.is_ready


async def test_metrics_are_prometheus_text(engine: Engine) -> None:
    await greedy(engine)
    assert b"vllm:generation_tokens_total{" in engine.metrics()


async def test_metrics_name_the_adapters_that_run_now_and_none_that_ever_ran(engine: Engine, tmp_path: Path) -> None:
    """vLLM's own keep a series for each set of adapters that ran together, for ever."""
    adapters = [make_checkpoint(tmp_path, step) for step in range(3)]
    for adapter in adapters:
        await greedy(engine, adapter)
    await asyncio.gather(*(greedy(engine, adapter) for adapter in adapters))
    series = [line for line in engine.metrics().splitlines() if line.startswith(b"vllm:lora_requests_info{")]
    assert len(series) == 1 and b'max_lora="' in series[0]


async def test_a_folder_without_a_model_is_an_engine_error(tmp_path: Path) -> None:
    engine = Engine(EngineSettings(model=tmp_path, name="nothing"))
    with pytest.raises(EngineError, match="no model folder"):
        await engine.start()
    with pytest.raises(EngineError, match="not running"):
        await engine.generation.tokenise(CHAT)


async def test_arguments_that_vllm_does_not_know_are_an_engine_error(tiny_model: Path) -> None:
    engine = Engine(EngineSettings(model=tiny_model, name="tiny", extra_args=["--no-such-thing"]))
    with pytest.raises(EngineError, match="--no-such-thing"):
        await engine.start()


def test_no_process_of_the_engine_outlives_its_server() -> None:
    """A server, its engine core and a worker, each a shell of itself; the server is killed with -9."""
    worker = (
        "import time; from gateway.engine.worker.owner import end_with_owner; end_with_owner(); "
        "print('watching', flush=True); time.sleep(60)"
    )
    core = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    server = (
        "import os, subprocess, sys; os.environ['BREAD_ENGINE_OWNER'] = str(os.getpid()); "
        f"subprocess.run([sys.executable, '-c', {core!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "watching\n"
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    process.stdout.close()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert len(gone) == 2 and not alive


async def test_the_canary_knows_base_and_adapter_apart_and_again_in_a_busy_batch(
    engine: Engine, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    await engine.load(checkpoint.name, checkpoint.path)
    known, swapped = Canary(), Canary()
    await known.check(engine.generation.canary_answer, engine.load)
    await known.record_adapter(checkpoint.name, checkpoint.path, engine.generation.canary_answer)
    await engine.record_canary()
    assert not engine.wants_canary
    await asyncio.gather(
        known.check(engine.generation.canary_answer, engine.load),
        *(greedy(engine, max_tokens=40, text=str(i)) for i in range(8)),
    )

    async def other(adapter: str | None) -> Answer:
        return await engine.generation.canary_answer(checkpoint.name if adapter is None else None)

    await swapped.check(other, engine.load)
    with pytest.raises(CanaryError, match="the base model reads"):
        await swapped.check(engine.generation.canary_answer, engine.load)


async def test_asleep_it_turns_requests_away_in_time_and_awake_it_answers_as_before(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, fields = make_checkpoint(tmp_path, 1), {"messages": CHAT, "max_tokens": 2}
    before = await greedy(engine, checkpoint)
    under_way = asyncio.create_task(greedy(engine, max_tokens=40))
    await until_working(engine)
    await engine.sleep()
    assert len((await under_way).response_ids) == 40, "it may end first"
    assert engine.is_asleep and not engine.is_ready and not engine.is_dead
    monkeypatch.setattr(sleep, "WAIT_SECONDS", 0.01)
    reply = await reply_to(handlers_of(engine), kinds.CHAT, fields)
    assert reply.status == 503 and "Retry-After" in reply.headers and b"sleeps while a bake trains" in reply.body
    with pytest.raises(EngineError, match="sleeps"):
        await greedy(engine)
    monkeypatch.setattr(sleep, "WAIT_SECONDS", 60.0)
    waiting = asyncio.create_task(reply_to(handlers_of(engine), kinds.CHAT, fields))
    await engine.wake()
    assert (await waiting).status == 200 and engine.is_ready
    assert (await greedy(engine, checkpoint)).response_ids == before.response_ids
    assert engine.sleep_share == 0.0, "nothing comes free on a CPU"


async def test_one_that_wakes_up_otherwise_is_killed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[bool] = []

    async def other(*arguments: Any) -> None:
        raise CanaryError("other answers")

    with monkeypatch.context() as patched:
        patched.setattr(Canary, "check", other)
        patched.setattr(EngineProcess, "kill", lambda process: killed.append(engine.is_ready))
        await engine.sleep()
        await engine.wake()
    assert killed == [False], "before anybody was served"
    await greedy(engine)


async def test_a_killed_engine_says_so_and_starts_again(engine: Engine, tmp_path: Path) -> None:
    """One that hangs, too: its worker was stopped."""
    checkpoint, path = make_checkpoint(tmp_path, 1), make_adapter(tmp_path / "adapter", 2)
    before = await greedy(engine, checkpoint)
    under_way = asyncio.create_task(greedy(engine, max_tokens=480, text="Hi"))
    await until_working(engine)
    # Its own alone: a service that other tests share has an engine too.
    processes = [child for child in psutil.Process().children() if child.name().startswith("VLLM")]
    processes += [child for core in processes for child in core.children() if child.name().startswith("VLLM")]
    for process in processes:
        process.suspend()
    loading = asyncio.create_task(engine.load("admin/repo/lost/1", path))
    await asyncio.sleep(0)
    engine.kill()
    with pytest.raises(EngineError):
        await under_way
    while not engine.is_dead:  # noqa: ASYNC110 - vLLM tells of a death by a flag
        await asyncio.sleep(0.01)
    assert not engine.is_ready
    with pytest.raises(EngineError, match="died"):
        await greedy(engine)
    reply = await reply_to(handlers_of(engine), kinds.CHAT, {"messages": CHAT})
    assert reply.status == 503 and "Retry-After" in reply.headers
    await engine.stop()
    # vLLM leaves such a call waiting for ever, and with it all that ask for the same adapter.
    with pytest.raises(EngineError, match="died while it loaded"):
        await loading
    assert processes and not psutil.wait_procs(processes, timeout=5)[1]
    await engine.start()
    assert (await greedy(engine, checkpoint)).response_ids == before.response_ids
    await engine.load("admin/repo/lost/1", path)
