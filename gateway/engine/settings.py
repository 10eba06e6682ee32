"""What the operator decides about the engine, and how that becomes vLLM's environment and arguments.

Imports no vLLM: settings are read, checked and shown before the engine (and its 700 MB of imports) is wanted.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

GIB = 2**30
CPU_MAX_MODEL_LEN = 4096
"""Prefill of a longer context takes seconds a request on a CPU (900 tokens/s on two cores)."""

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
    """Adapters that can run in the same batch. One more waits until another has no request left (vLLM skips it),
    so this is the number that is hot at once; each slot holds max_lora_rank weights whether used or not."""
    max_cpu_loras: Positive = 32
    """Adapters kept in host memory; one beyond these is read from disk again, 20 to 30 ms, when it is asked for."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 32
    """Largest rank of an adapter."""
    kv_cache_gib: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    """Memory of the key-value cache in GiB; None: on a CPU a quarter of what is free, between 0.25 and 4,
    on a GPU what gpu_memory_utilization leaves after the weights."""
    gpu_memory_utilization: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.6
    """Share of the GPU's memory that the engine takes, weights included; the rest is the trainer's."""
    max_logprobs: Positive = 64
    """Most top log-probabilities a request may ask for; at least the K of rollouts."""
    max_num_seqs: Positive | None = None
    """Most sequences in one batch; None: vLLM's choice for the device."""
    max_n: Positive = 16
    """Most answers (`n`) to one request. vLLM's own limit is 16,384, and 300 took 14 s for two tokens each."""
    extra_args: list[str] = []
    """More arguments of `vllm serve`, as on its command line; these win over all of the above."""

    def __post_init__(self) -> None:
        if self.max_cpu_loras < self.max_loras:
            raise ValueError(f"max_cpu_loras ({self.max_cpu_loras}) must be at least max_loras ({self.max_loras})")


def set_environment(settings: EngineSettings) -> None:
    """vLLM's switches, in this process and so in its children; what the operator has set stays.

    Must happen before vLLM is imported: it configures its logging then.
    """
    wanted = {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",  # the model is a folder; without it vLLM still asks the hub about it
        "VLLM_MAX_N_SEQUENCES": str(settings.max_n),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, _engine_cores())),
    }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def _engine_cores() -> list[int]:
    """All cores but the first, where there are several: that one is for the trainer and the HTTP face.

    An engine with a thread on every core waits in each of its 200 barriers a token for the one that shares its core.
    Two cores, SmolLM2-135M, beside a training run that keeps both busy: 2 threads give 6 tokens/s to one client and 17
    to sixteen, 1 thread gives 15 and 33. With the machine to itself the second thread is worth 20 %.
    """
    cores = sorted(os.sched_getaffinity(0))
    return cores[1:] or cores


def arguments(settings: EngineSettings, *, is_cpu: bool) -> list[str]:
    """The command line that `vllm serve` would be given."""
    values: dict[str, Any] = {
        "--model": settings.model,
        "--served-model-name": settings.name,
        "--max-loras": settings.max_loras,
        "--max-cpu-loras": settings.max_cpu_loras,
        "--max-lora-rank": settings.max_lora_rank,
        "--max-logprobs": settings.max_logprobs,
        "--max-model-len": settings.max_model_len,
        "--max-num-seqs": settings.max_num_seqs,
        "--worker-extension-cls": "gateway.engine.worker.WorkerExtension",
    }
    kv_cache_gib = settings.kv_cache_gib
    if is_cpu:
        kv_cache_gib = kv_cache_gib or cpu_kv_cache_gib()
        values["--max-model-len"] = settings.max_model_len or _cpu_max_model_len(settings.model)
        values["--dtype"] = _cpu_dtype(settings.model)
    else:
        values["--gpu-memory-utilization"] = settings.gpu_memory_utilization
    if kv_cache_gib is not None:
        values["--kv-cache-memory-bytes"] = int(kv_cache_gib * GIB)
    flags = ["--enable-lora", *(["--enforce-eager"] if is_cpu else [])]
    pairs = [text for name, value in values.items() if value is not None for text in (name, str(value))]
    return [*pairs, *flags, *settings.extra_args]


def cpu_kv_cache_gib() -> float:
    """A quarter of the memory that is free now, between 0.25 and 4 GiB."""
    return min(4.0, max(0.25, _free_bytes() / GIB / 4))


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cpu_dtype(model: Path) -> str | None:
    """float32 where the CPU can't multiply bfloat16 and the model fits so; None: as the model is stored.

    Without AVX512-BF16, AMX or Arm's BF16 the product is emulated: the layers of SmolLM2-135M take 2.6 times as long
    as in float32 for 16 rows, 4 times for 256.
    """
    flags = set(Path("/proc/cpuinfo").read_text().split())
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    fits = 2 * weights < _free_bytes() / 2
    return "float32" if fits and flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"}) else None


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
