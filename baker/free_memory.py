"""How much main memory is free: on the machine or within the container's limit, whichever is less."""

import resource
import sys
from pathlib import Path

CONTAINER = Path("/sys/fs/cgroup")
"""A container's own control group (version 2), as its processes see it."""


def free_bytes() -> int | None:
    """Main memory that can still be taken, within machine and container; None if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([*available, *_left_in(CONTAINER)], default=None)


def _left_in(container: Path) -> list[int]:
    """Bytes left below a control group's limit; empty if it has no limit. Cached files count as free: they are dropped
    when memory is needed."""
    try:
        limit, used = ((container / name).read_text().strip() for name in ("memory.max", "memory.current"))
        lines = (container / "memory.stat").read_text().splitlines()
    except OSError:
        return []
    if limit == "max":
        return []
    cached = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
    return [max(0, int(limit) - int(used) + cached)]


def peak_bytes() -> int:
    """The most main memory that this process has used at any time."""
    try:
        # Not ru_maxrss: a process inherits that of the one that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    except OSError:  # not Linux
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
