"""Regular expressions that clients write.

Some take exponential time and others gigabytes of memory. Python can stop neither in its own process, and `re` holds up
all threads meanwhile. So they run in a process of their own, whose time and memory the operating system limits.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from baker import pattern_process
from baker.errors import InvalidInputError

WALL_SECONDS = 120.0
"""Longest wait for the process: on a busy machine it gets less than one core."""


def count_matches(
    patterns: Sequence[str],
    texts: Sequence[str],
    *,
    library: Literal["re", "regex"],
    method: Literal["match", "fullmatch", "search"],
    cpu_seconds: int,
) -> list[int]:
    """For each text, the number of patterns that are found in it. Blocks.

    Args: cpu_seconds: limit for all of it.
    Raises: InvalidInputError if a pattern is none, or the search takes too much time or memory.
    """
    asked = {
        "library": library,
        "method": method,
        "patterns": list(patterns),
        "texts": list(texts),
        "cpu_seconds": cpu_seconds,
    }
    try:
        process = subprocess.run(
            [sys.executable, "-I", pattern_process.__file__],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=WALL_SECONDS,
            cwd=Path(pattern_process.__file__).parent,
        )
    except subprocess.TimeoutExpired:
        raise InvalidInputError(_too_much("time")) from None
    if process.returncode < 0:  # a signal: the limit of its CPU time, or the system was out of memory
        raise InvalidInputError(_too_much("time"))
    if process.returncode > 0:
        raise InvalidInputError(_too_much("memory"))
    answer = json.loads(process.stdout)
    if pattern_process.WRONG in answer:
        raise InvalidInputError(f"the pattern is not a regular expression: {answer[pattern_process.WRONG]}")
    if pattern_process.TOO_LARGE in answer:
        raise InvalidInputError(_too_much("memory"))
    counts: list[int] = answer["counts"]
    return counts


def _too_much(what: str) -> str:
    return f"the search with the pattern took too much {what}: write a simpler one"
