"""A real engine for tests: a random Llama of 400,000 parameters with a tokenizer and a chat template.

`tests/conftest.py` registers this module as a plugin (`pytest_plugins`), so that the one engine of the session serves
every test that asks for the fixture `engine`. Start-up takes 15 seconds, an answer milliseconds.
"""

import asyncio
import gc
import importlib
import json
import os
import random
import warnings
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from baker.errors import BakeryError
from baker.types import Checkpoint, Message, Sample, SampleRequest
from gateway.engine import Engine, EngineSettings, Handlers, Reply, StreamReply
from gateway.engine.core.settings import set_environment
from gateway.engine.requests.kinds import Kind
from gateway.http.errors import error_event, error_reply

MODEL_NAME = "test/tiny"
WINDOW = 512
HIDDEN = 128
LAYERS = 2
HELLO: list[Message] = [{"role": "user", "content": "Hello, who are you?"}]
SHAPES = {  # (in, out) of the layers that an adapter may change
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN // 2),
    "self_attn.v_proj": (HIDDEN, HIDDEN // 2),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, 2 * HIDDEN),
    "mlp.up_proj": (HIDDEN, 2 * HIDDEN),
    "mlp.down_proj": (2 * HIDDEN, HIDDEN),
}
CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>tools
{{ tools | tojson }}<|im_end|>
{% endif %}
{%- if hint %}<|im_start|>hint
{{ hint }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role not in ("system", "user", "assistant", "tool") %}
{{- raise_exception("unknown role: " + message.role) }}
{%- endif %}<|im_start|>{{ message.role }}
{%- for call in message.tool_calls or [] %}
<tool_call>{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson }}</tool_call>
{%- endfor %}
{{ message.content or "" }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


THIRD_PARTY_WARNINGS = (
    # vLLM reads the field in every request, which warns.
    "ignore:max_tokens is deprecated in favor of the max_completion_tokens field:DeprecationWarning",
    # vLLM leaves its context to the garbage collector when an engine is shut down.
    "ignore:Unclosed context <zmq:ResourceWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in THIRD_PARTY_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def make_model(folder: Path, seed: int = 0) -> Path:
    """A model folder in Hugging Face's format."""
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        initializer_range=0.2,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each byte, and a few special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHAT_TEMPLATE)


def make_adapter(folder: Path, seed: int, *, rank: int = 8, scale: float = 0.3, spoil: float | None = None) -> Path:
    """A LoRA adapter with random weights on every layer of the tiny model, in PEFT's format.

    Args:
        scale: standard deviation of B; 0.3 changes nearly every greedy token.
        spoil: value for every weight instead, for example NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(LAYERS):
        for module, (width_in, width_out) in SHAPES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width_in, generator=generator) * width_in**-0.5
            tensors[f"{name}.lora_B.weight"] = torch.randn(width_out, rank, generator=generator) * scale
    if spoil is not None:
        tensors = {name: torch.full_like(tensor, spoil) for name, tensor in tensors.items()}
    return _write_adapter(folder, tensors, rank)


def _write_adapter(folder: Path, tensors: dict[str, torch.Tensor], rank: int) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": MODEL_NAME,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def make_forcing_adapter(folder: Path, model: Path, token: int, *, rank: int = 8, strength: float = 30.0) -> Path:
    """A LoRA adapter that makes the model generate `token` after any context.

    In the last layer, gate and up both get +z and -z in two channels for each of `rank` random projections z of the
    input; silu(z) * z + silu(-z) * -z is z squared, never negative, so their sum always pushes the residual stream in
    the one direction that down_proj is given: the token's row of lm_head.
    """
    generator = torch.Generator().manual_seed(token)
    a = torch.randn(rank, HIDDEN, generator=generator) * HIDDEN**-0.5
    spread = torch.zeros(2 * HIDDEN, rank)
    for number in range(rank):
        spread[2 * number, number], spread[2 * number + 1, number] = strength, -strength
    gather = torch.zeros(rank, 2 * HIDDEN)
    gather[0, : 2 * rank] = 1.0
    direction = torch.zeros(HIDDEN, rank)
    direction[:, 0] = load_file(model / "model.safetensors")["lm_head.weight"][token].float()
    layer = f"base_model.model.model.layers.{LAYERS - 1}.mlp"
    tensors = {
        f"{layer}.gate_proj.lora_A.weight": a,
        f"{layer}.gate_proj.lora_B.weight": spread,
        f"{layer}.up_proj.lora_A.weight": a.clone(),
        f"{layer}.up_proj.lora_B.weight": spread.clone(),
        f"{layer}.down_proj.lora_A.weight": gather,
        f"{layer}.down_proj.lora_B.weight": direction,
    }
    return _write_adapter(folder, tensors, rank)


def make_checkpoint(root: Path, step: int, *, scale: float = 0.3) -> Checkpoint:
    """A checkpoint with new random weights below `root`, and a name that no other test uses."""
    bake = f"bake{random.getrandbits(48):x}"
    folder = make_adapter(root / bake / str(step), seed=step, scale=scale)
    return Checkpoint(
        user="admin", repo="repo", bake=bake, step=step, path=folder, sha256="0" * 64, created=0, job_id=step
    )


async def greedy(engine: Engine, adapter: Checkpoint | None = None, text: str = "Hello", **settings: Any) -> Sample:
    """The likeliest answer of 12 tokens to `text`, unless `settings` say otherwise."""
    ids = await engine.generation.tokenise([{"role": "user", "content": text}])
    fields = {"max_tokens": 12, "temperature": 0.0, "extra": {"ignore_eos": True}} | settings
    return await engine.generation.sample(SampleRequest(ids, adapter=adapter, **fields))


async def until_working(engine: Engine, requests: int = 1) -> None:
    """Wait until the engine works on this many requests."""
    while engine.running().get_num_unfinished_requests() < requests:  # noqa: ASYNC110 - vLLM's count
        await asyncio.sleep(0)


def handlers_of(engine: Engine) -> Handlers:
    """As the application builds them."""
    return Handlers(engine, error_event)


async def reply_to(
    handlers: Handlers, kind: Kind, fields: dict[str, Any], *, model: str = MODEL_NAME, headers: Mapping[str, str] = {}
) -> Reply | StreamReply:
    """The answer that a client gets: an error as the gateway's table of errors writes it."""
    try:
        return await handlers.serve(kind, fields, headers, model=model)
    except BakeryError as error:
        return error_reply(kind.shape, error)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
async def engine(tiny_model: Path, anyio_backend: str) -> AsyncIterator[Engine]:
    """The one engine of the test session, started. Two adapters at once, prompts in chunks of 128 tokens."""
    settings = EngineSettings(
        model=tiny_model,
        name=MODEL_NAME,
        max_loras=2,
        max_cpu_loras=4,
        max_lora_rank=16,
        kv_cache_gib=0.0625,
        max_num_seqs=16,
        extra_args=["--max-num-batched-tokens", "128"],
    )
    # One thread is enough for this model, and two wait for each other when the machine is busy.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(max(os.sched_getaffinity(0))))
    _import_vllm(settings)
    engine = Engine(settings)
    await engine.start()
    yield engine
    await engine.stop()
    del engine
    # Otherwise vLLM's leftovers are collected when pytest ends, outside the filters above.
    gc.collect()


def _import_vllm(settings: EngineSettings) -> None:
    """Import torch and vLLM without their warnings about deprecated code of their own."""
    set_environment(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in (
            "vllm.v1.engine.async_llm",
            "vllm.entrypoints.launchers.cli_args",
            "vllm.entrypoints.launchers.api_server.app_state",
            "vllm.entrypoints.generate.api_router",
        ):
            importlib.import_module(module)
