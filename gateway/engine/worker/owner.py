"""The engine's processes end with the server that owns them. Called in vLLM's worker; imports no vLLM."""

import os
import select
import signal
import threading
from pathlib import Path

OWNER_VARIABLE = "BREAD_ENGINE_OWNER"
"""Environment variable with the process id of the server that the engine belongs to."""


def end_with_owner() -> None:
    """Kill the engine core and this worker as soon as the owner is gone.

    vLLM's engine core waits on its socket forever if the server is killed with -9, and keeps weights and cache
    (1.8 GB for the embedded model). It offers no hook of its own; a worker process watches only its parent.
    """
    owner = os.environ.get(OWNER_VARIABLE)
    if owner is None or int(owner) == os.getpid():
        return
    parent = os.getppid()
    try:
        handle = os.pidfd_open(int(owner))
    except ProcessLookupError:
        _end(parent, owner)
        return
    threading.Thread(target=_wait_and_end, args=(handle, parent, owner), name="owner-watch", daemon=True).start()


def _wait_and_end(handle: int, parent: int, owner: str) -> None:
    watch = select.poll()
    watch.register(handle, select.POLLIN)
    watch.poll()
    _end(parent, owner)


def _end(parent: int, owner: str) -> None:
    if _was_started_by(owner, parent):
        os.kill(parent, signal.SIGKILL)
    os._exit(1)


def _was_started_by(owner: str, pid: int) -> bool:
    """Whether `pid` was started with the owner's mark: true of the engine core, never of the owner or of init."""
    try:
        marks = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{OWNER_VARIABLE}={owner}".encode() in marks
