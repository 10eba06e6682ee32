"""Which instructions this CPU has."""

import functools
from pathlib import Path


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for it."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
