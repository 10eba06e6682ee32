"""How much main memory may still be taken: the machine's and the container's limit, whichever is lower."""

import resource
import sys
from pathlib import Path

CONTAINER = Path("/sys/fs/cgroup")
"""What a process in a container sees of its own control group (version 2)."""


def free_bytes() -> int | None:
    """Main memory that may still be taken, of the machine and of the container; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([*found, *_left_in(CONTAINER)], default=None)


def _left_in(container: Path) -> list[int]:
    """What the limit of a control group leaves, if there is one. Cached files give way, so they count as free."""
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
    """The most memory that this process has held at once."""
    try:
        # Not ru_maxrss: a process inherits that of the one that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    except OSError:  # not Linux
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
