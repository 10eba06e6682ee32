"""Which instructions this CPU has. Imports no vLLM."""

import functools
from pathlib import Path


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions that multiply bfloat16 (AVX512-BF16, AMX or Arm's BF16)."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
