"""What the operator decides about the engine, and how that becomes vLLM's environment and arguments.

Imports no vLLM: settings are read, checked and shown before the engine (and its 700 MB of imports) is wanted.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from gateway.engine.core.tools import parser_for, reasoning_parser_for
from gateway.engine.worker import cpu_norms
from gateway.engine.worker.cpu_features import multiplies_bfloat16

GIB = 2**30
CPU_MAX_MODEL_LEN = 4096
"""Prefill of a longer context takes seconds a request on a CPU (900 tokens/s on two cores)."""

SPARE_COPIES = 2
"""Places for adapters in vLLM's host memory beyond those that we fill: it reads one again that was removed a moment
before its last request was seen to be aborted, and must not drop another for it."""

Positive = Annotated[int, msgspec.Meta(ge=1)]


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine, one base model."""

    model: Path
    """Folder of the base model, in Hugging Face's format."""
    name: str
    """The name that clients use for the base model."""
    max_model_len: Positive | None = None
    """Context window in tokens, prompt and answer together; None: the model's own, on a CPU at most 4,096."""
    max_loras: Positive = 8
    """Adapters that can run in the same batch. One more waits for its turn (see `adapters.AdapterTable`), so this is
    the number that is hot at once; each slot holds max_lora_rank weights whether used or not."""
    max_cpu_loras: Positive = 32
    """Adapters kept in host memory, at least max_loras; one more is read from disk again when it is needed."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 32
    """Largest rank of an adapter."""
    kv_cache_gib: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    """Memory of the key-value cache in GiB; None: on a CPU an eighth of what is free, between 0.25 and 2,
    on a GPU what gpu_memory_utilization leaves after the weights."""
    gpu_memory_utilization: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.6
    """Share of the GPU's memory that the engine takes, weights included; the rest is the trainer's."""
    max_logprobs: Positive = 64
    """Most top log-probabilities a request may ask for; at least the K of rollouts."""
    max_num_seqs: Positive | None = None
    """Most sequences in one batch; None: vLLM's choice for the device."""
    max_n: Positive = 16
    """Most answers (`n`) to one request. vLLM's own limit is 16,384, and 300 took 14 s for two tokens each."""
    tool_call_parser: str | None = None
    """vLLM's name of what reads tool calls out of answers; None: by the chat template."""
    reasoning_parser: str | None = None
    """vLLM's name of what tells reasoning from the answer; None: by the chat template, empty: nothing does."""
    lends_weights: bool = False
    """Whether a training on the engine's GPU may use its weights in place of a copy of its own."""
    extra_args: list[str] = []
    """More arguments of `vllm serve`, as on its command line; these win over all of the above."""


KEPT_PRODUCTS = "256"
"""2,000 shapes of SmolLM2's products took 950 MiB with the default, 250 with this, in no more time."""


def set_environment(settings: EngineSettings) -> None:
    """vLLM's switches, in this process and so in its children; what the operator has set stays.

    Must happen before vLLM is imported: it configures its logging then.
    """
    wanted = {
        "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about choices that are made here on purpose
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        # Of its own code, for its developers; and that shared memory of killed workers was removed, which is meant so.
        "PYTHONWARNINGS": "ignore::FutureWarning,ignore:resource_tracker:UserWarning",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",  # the model is a folder; without it vLLM still asks the hub about it
        "VLLM_MAX_N_SEQUENCES": str(settings.max_n),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, _engine_cores())),
        # oneDNN, and torch in front of it, keep what they compile for each shape of a product, and prompts and adapters
        # make many shapes.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": KEPT_PRODUCTS,
        "LRU_CACHE_CAPACITY": KEPT_PRODUCTS,
    }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def _engine_cores() -> list[int]:
    """All cores; vLLM's own choice leaves one idle.

    Two cores, SmolLM2-135M, 1 and 10 streams: 19 and 115 tokens/s with two threads, 13 and 68 with one. Beside a
    process that keeps both cores busy at the trainer's niceness: 14 and 90 with two, 14 and 78 with one.
    """
    return sorted(os.sched_getaffinity(0))


def arguments(settings: EngineSettings, *, is_cpu: bool) -> list[str]:
    """The command line that `vllm serve` would be given."""
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
        "--no-use-tqdm-on-load",
        *(["--enforce-eager"] if is_cpu else []),
    ]
    pairs = [text for name, value in values.items() if value is not None for text in (name, str(value))]
    return [*pairs, *flags, *settings.extra_args]


def cpu_kv_cache_gib() -> float:
    """An eighth of the memory that is free now, between 0.25 and 2 GiB; it is taken at once, used or not."""
    return min(2.0, max(0.25, _free_bytes() / GIB / 8))


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cpu_dtype(model: Path) -> str | None:
    """float32 where the CPU can't multiply bfloat16 and the model fits so; None: as the model is stored.

    Without AVX512-BF16, AMX or Arm's BF16 the product is emulated: the layers of SmolLM2-135M take 2.6 times as long
    as in float32 for 16 rows, 4 times for 256.
    """
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    fits = 2 * weights < _free_bytes() / 2
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
        raise ValueError(f"{model / 'config.json'} holds no object")
    return config
