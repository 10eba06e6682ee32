"""The engine's processes end with their server."""

import subprocess
import sys

import psutil


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
