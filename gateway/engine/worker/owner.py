"""The engine's processes end with the server that owns them, and not before. Installed in vLLM's worker; imports no
vLLM.

In vLLM 0.32 the engine core waits on its socket forever if the server is killed with -9, and keeps weights and cache
(1.8 GB for the embedded model). A worker process watches only its parent, the engine core. Remove this when vLLM's
engine core watches its front end.

Ctrl-C in a terminal reaches the server and its engine at the same time. vLLM's processes then end at once, so requests
that the server still has time for would fail, and the log would end with the death of the engine.
"""

import os
import select
import signal
import threading
from pathlib import Path

OWNER_VARIABLE = "BREAD_ENGINE_OWNER"
"""Name of the environment variable with the process id of the server that owns the engine."""


def leave_interrupts_to_owner() -> None:
    """Ignore SIGINT in this process, after vLLM has set its own handler. The owner ends the engine when it stops."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_with_owner() -> None:
    """Kill the engine core and this worker as soon as the owner has ended."""
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
    """Whether the environment of `pid` names the owner: true for the engine core, never for the owner or init."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{OWNER_VARIABLE}={owner}".encode() in variables
