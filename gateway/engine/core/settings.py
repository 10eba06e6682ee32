"""The operator's settings of the engine, and how they become vLLM's environment and arguments.

Imports no vLLM: settings are read, checked and shown before the engine, with its 700 MB of imports, is needed.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from baker.free_memory import free_bytes
from gateway.engine.core.tools import parser_for, reasoning_parser_for
from gateway.engine.worker import cpu_norms
from gateway.engine.worker.cpu_features import multiplies_bfloat16

GIB = 2**30
CPU_MAX_MODEL_LEN = 4096
"""Prefill of a longer context takes seconds a request on a CPU (900 tokens/s on two cores)."""

SPARE_COPIES = 2
"""Places for adapters in vLLM's host memory beyond those that we fill. If an adapter is removed just before vLLM sees
that its last request was aborted, vLLM loads it again, and must not drop another one for it."""

Positive = Annotated[int, msgspec.Meta(ge=1)]


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine, one base model."""

    model: Path
    """Folder of the base model, in Hugging Face's format."""
    name: str
    """Name that clients use for the base model."""
    max_model_len: Positive | None = None
    """Context window in tokens, prompt and answer together; None: the model's own, on a CPU at most 4,096."""
    max_loras: Positive = 8
    """Number of adapters that can run in the same batch. Others wait for their turn (see `slots.AdapterTable`). Each
    slot takes memory for weights of max_lora_rank, used or not."""
    max_cpu_loras: Positive = 32
    """Number of adapters kept in host memory, at least max_loras; others are read from disk when they are needed."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 32
    """Largest rank of an adapter."""
    kv_cache_gib: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    """Memory of the key-value cache in GiB; None: on a CPU an eighth of the free memory, between 0.25 and 2; on a GPU
    what gpu_memory_utilization leaves after the weights."""
    gpu_memory_utilization: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.6
    """Share of the GPU's memory that the engine takes, weights included; the rest is the trainer's."""
    max_logprobs: Positive = 64
    """Most top log-probabilities that a request may ask for; at least the K of rollouts."""
    max_num_seqs: Positive | None = None
    """Most sequences in one batch; None: vLLM's choice for the device."""
    max_n: Positive = 16
    """Most answers (`n`) to one request. vLLM's own limit is 16,384, and 300 took 14 s for two tokens each."""
    tool_call_parser: str | None = None
    """Name of vLLM's parser of tool calls; None: chosen by the chat template."""
    reasoning_parser: str | None = None
    """Name of vLLM's parser that separates reasoning from answers; None: chosen by the chat template; empty: none."""
    lends_weights: bool = False
    """Whether a training on the engine's GPU may use the engine's weights instead of a copy."""
    extra_args: list[str] = []
    """More arguments of `vllm serve`, as on its command line; they override all of the above."""


KEPT_PRODUCTS = "256"
"""Number of compiled matrix products to keep. 2,000 shapes of SmolLM2's products took 950 MiB with the default, 250 MiB
with this, and no more time."""


def set_environment(settings: EngineSettings) -> None:
    """Set vLLM's environment variables for this process and its children; those that the operator has set stay.

    Must run before vLLM is imported, which configures its logging then.
    """
    wanted = {
        "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about choices that we make on purpose
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        # vLLM's FutureWarnings are for its developers. The resource tracker warns when it removes shared memory of
        # killed workers, as it should.
        "PYTHONWARNINGS": "ignore::FutureWarning,ignore:resource_tracker:UserWarning",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",  # the model is a folder; without it vLLM still asks the hub about it
        "VLLM_MAX_N_SEQUENCES": str(settings.max_n),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, _engine_cores())),
        # oneDNN, and torch in front of it, keep what they compile for each shape of a product; prompts and adapters
        # make many shapes.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": KEPT_PRODUCTS,
        "LRU_CACHE_CAPACITY": KEPT_PRODUCTS,
    }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def _engine_cores() -> list[int]:
    """All cores; vLLM's default leaves one idle.

    On two cores, SmolLM2-135M with 1 and 10 streams: 19 and 115 tokens/s with two threads, 13 and 68 with one. Beside a
    process that keeps both cores busy at the trainer's niceness: 14 and 90 with two, 14 and 78 with one.
    """
    return sorted(os.sched_getaffinity(0))


def arguments(settings: EngineSettings, *, is_cpu: bool) -> list[str]:
    """The equivalent command line of `vllm serve`."""
    values: dict[str, Any] = {
        "--model": settings.model,
        "--served-model-name": settings.name,
        "--max-loras": settings.max_loras,
        "--max-cpu-loras": max(settings.max_cpu_loras, settings.max_loras) + SPARE_COPIES,
        "--max-lora-rank": settings.max_lora_rank,
        "--max-logprobs": settings.max_logprobs,
        "--max-model-len": settings.max_model_len,
        "--max-num-seqs": settings.max_num_seqs,
        "--tool-call-parser": settings.tool_call_parser or parser_for(settings.model),
        "--worker-extension-cls": "gateway.engine.worker.extension.WorkerExtension",
    }
    reasoning_parser = settings.reasoning_parser
    if reasoning_parser is None:
        reasoning_parser = reasoning_parser_for(settings.model)
    values["--reasoning-parser"] = reasoning_parser or None
    kv_cache_gib = settings.kv_cache_gib
    if is_cpu:
        kv_cache_gib = kv_cache_gib or cpu_kv_cache_gib()
        values["--max-model-len"] = settings.max_model_len or _cpu_max_model_len(settings.model)
        values["--dtype"] = _cpu_dtype(settings.model)
        values["--distributed-executor-backend"] = "gateway.engine.worker.executor.InProcessExecutor"
        values["--ir-op-priority"] = cpu_norms.PRIORITY
    else:
        values["--gpu-memory-utilization"] = settings.gpu_memory_utilization
    if kv_cache_gib is not None:
        values["--kv-cache-memory-bytes"] = int(kv_cache_gib * GIB)
    flags = [
        "--enable-lora",
        "--enable-auto-tool-choice",
        "--enable-prompt-tokens-details",
        "--no-use-tqdm-on-load",
        *(["--enforce-eager"] if is_cpu else []),
    ]
    pairs = [text for name, value in values.items() if value is not None for text in (name, str(value))]
    return [*pairs, *flags, *settings.extra_args]


def cpu_kv_cache_gib() -> float:
    """An eighth of the memory that is free now, between 0.25 and 2 GiB. vLLM takes it all at the start, used or not."""
    return min(2.0, max(0.25, (free_bytes() or 0) / GIB / 8))


def _cpu_dtype(model: Path) -> str | None:
    """float32 if the CPU can't multiply bfloat16 and the model fits in float32; None: as the model is stored.

    Without AVX512-BF16, AMX or Arm's BF16 the product is emulated: the layers of SmolLM2-135M take 2.6 times as long
    as in float32 for 16 rows, 4 times for 256.
    """
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    fits = 2 * weights < (free_bytes() or 0) / 2
    return "float32" if fits and not multiplies_bfloat16() else None


def _cpu_max_model_len(model: Path) -> int | None:
    """The model's window, at most 4,096; None if its config doesn't say."""
    config = read_config(model)
    length = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return None if length is None else min(int(length), CPU_MAX_MODEL_LEN)


def read_config(model: Path) -> dict[str, Any]:
    """The model's config.json. Raises: OSError, ValueError."""
    config = json.loads((model / "config.json").read_text())
    if not isinstance(config, dict):
        raise ValueError(f"{model / 'config.json'} must hold a JSON object")
    return config
