"""The life of one engine and its adapters, on a tiny model in a real vLLM."""

import asyncio
import json
from pathlib import Path

import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from baker.adapters.combine import Term, combine
from baker.errors import AdapterError, EngineError, NotFoundError
from baker.types import Checkpoint
from gateway.engine import Engine
from gateway.engine.requests import kinds
from tests.gateway.engines import (
    HELLO,
    MODEL_NAME,
    WINDOW,
    greedy,
    handlers_of,
    make_adapter,
    make_checkpoint,
    reply_to,
    until_working,
)

pytestmark = pytest.mark.anyio


async def test_the_engine_serves_the_base_model_of_its_settings(engine: Engine, tiny_model: Path) -> None:
    assert (engine.name, engine.path, engine.max_lora_rank) == (MODEL_NAME, tiny_model, 16)
    assert engine.is_ready and not engine.is_dead
    assert engine.max_model_len == WINDOW
    assert engine.generation.renders_tools
    await engine.wait_ready()


async def test_adapters_and_the_base_model_answer_the_same_alone_and_in_one_batch(
    engine: Engine, tmp_path: Path
) -> None:
    one, two = make_checkpoint(tmp_path, 1), make_checkpoint(tmp_path, 2)
    alone = [await greedy(engine, adapter) for adapter in (None, one, two)]
    assert len({tuple(sample.response_ids) for sample in alone}) == 3
    mixed = await asyncio.gather(*(greedy(engine, adapter, top_logprobs=1) for adapter in (None, one, two) * 3))
    for sample, adapter_alone in zip(mixed, alone * 3, strict=True):
        assert sample.response_ids == adapter_alone.response_ids


@pytest.mark.parametrize("scale", [0.03, 0.3])
async def test_an_adapter_is_served_as_peft_computes_it(
    engine: Engine, tiny_model: Path, tmp_path: Path, scale: float
) -> None:
    checkpoint = make_checkpoint(tmp_path, 1, scale=scale)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    await assert_served_as(PeftModel.from_pretrained(base, checkpoint.path), engine, checkpoint)


async def test_a_sum_of_adapters_is_served_as_peft_computes_it_from_the_parts(
    engine: Engine, tiny_model: Path, tmp_path: Path
) -> None:
    one, two = (make_adapter(tmp_path / str(seed), seed, scale=0.1) for seed in (1, 2))
    checkpoint = make_checkpoint(tmp_path, 3)
    combine([Term(one, 0.7), Term(two, -0.4)], checkpoint.path, max_rank=16)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, one, "one")
    model.load_adapter(two, "two")
    model.add_weighted_adapter(["one", "two"], [0.7, -0.4], "sum", combination_type="cat")
    model.set_adapter("sum")
    await assert_served_as(model, engine, checkpoint)


async def assert_served_as(model: PeftModel, engine: Engine, checkpoint: Checkpoint) -> None:
    model.eval()
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
    assert (served_TK - expected_TK).abs().mean() < 0.1, "bfloat16 rounds by this much"
    strength = ((served_TK - base_TK) * effect_TK).sum() / effect_TK.square().sum()
    assert strength == pytest.approx(1.0, abs=0.03)


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
    assert next(engine._adapter_ids) == before + 2  # one for the adapter, one for this test
    with pytest.raises(AdapterError, match="already loaded"):
        await engine.load("admin/repo/shared/1", tmp_path)


async def test_patterns_and_rslora_are_served_as_peft_defines_them(engine: Engine, tmp_path: Path) -> None:
    """The same update written in two ways: q_proj with half the rank by a pattern, or padded with zeros."""
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


async def test_missing_files_are_an_error_and_do_not_kill_the_engine(engine: Engine, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    await greedy(engine, checkpoint)
    (checkpoint.path / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match="gone"):
        await greedy(engine, checkpoint)
    await engine.unload(checkpoint.name)
    assert engine.is_ready


async def test_a_killed_engine_fails_its_requests_and_starts_again(engine: Engine, tmp_path: Path) -> None:
    """Also if it hangs: its worker is suspended."""
    checkpoint, path = make_checkpoint(tmp_path, 1), make_adapter(tmp_path / "adapter", 2)
    before = await greedy(engine, checkpoint)
    under_way = asyncio.create_task(greedy(engine, max_tokens=480, text="Hi"))
    await until_working(engine)
    # Only its own: a service that other tests share has an engine too.
    processes = [child for child in psutil.Process().children() if child.name().startswith("VLLM")]
    processes += [child for core in processes for child in core.children() if child.name().startswith("VLLM")]
    for process in processes:
        process.suspend()
    loading = asyncio.create_task(engine.load("admin/repo/lost/1", path))
    await asyncio.sleep(0)
    engine.kill()
    with pytest.raises(EngineError):
        await under_way
    while not engine.is_dead:  # noqa: ASYNC110 - vLLM reports a death by a flag
        await asyncio.sleep(0.01)
    assert not engine.is_ready
    with pytest.raises(EngineError, match="died"):
        await greedy(engine)
    reply = await reply_to(handlers_of(engine), kinds.CHAT, {"messages": HELLO})
    assert reply.status == 503 and "Retry-After" in reply.headers
    await engine.stop()
    # vLLM leaves such a call waiting forever, and with it all requests for the same adapter.
    with pytest.raises(EngineError, match="died while it loaded"):
        await loading
    assert processes and not psutil.wait_procs(processes, timeout=5)[1]
    await engine.start()
    assert (await greedy(engine, checkpoint)).response_ids == before.response_ids
    await engine.load("admin/repo/lost/1", path)
