"""The engine's processes end with their server, and not before."""

import signal
import subprocess
import sys

import psutil

from gateway.engine.worker.owner import OWNER_VARIABLE, _was_started_by


def test_no_process_of_the_engine_outlives_its_server() -> None:
    """A server, its engine core and a worker, each a shell of itself; the server is killed with -9."""
    worker = (
        "import time; from gateway.engine.worker.owner import end_with_owner; end_with_owner(); "
        "print('watching', flush=True); time.sleep(60)"
    )
    core = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    server = (
        "import os, subprocess, sys; os.environ['BREAD_ENGINE_OWNER'] = str(os.getpid()); "
        f"subprocess.run([sys.executable, '-c', {core!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "watching\n"
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    process.stdout.close()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert len(gone) == 2 and not alive


def test_only_a_process_that_was_started_for_the_owner_may_be_killed() -> None:
    """Its environment says so; the worker's parent may have become init meanwhile."""
    code = "print('started', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={OWNER_VARIABLE: "12"},
    )
    assert child.stdout is not None and child.stdout.readline() == "started\n"
    try:
        assert _was_started_by("12", child.pid)
        assert not _was_started_by("1", child.pid)
        assert not _was_started_by("12", 1)
    finally:
        child.communicate("\n")
    assert not _was_started_by("12", child.pid), "it has ended"


def test_ctrl_c_reaches_only_the_server() -> None:
    """vLLM's own handler, which ends the process, no longer runs; SIGTERM still does."""
    code = (
        "import signal, sys\n"
        "from gateway.engine.worker.owner import leave_interrupts_to_owner\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(3))\n"
        "leave_interrupts_to_owner()\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin: print(line, end='', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        process.stdin.write("still here\n")
        process.stdin.flush()
        assert process.stdout.readline() == "still here\n"
        process.terminate()
        assert process.wait() == -signal.SIGTERM
