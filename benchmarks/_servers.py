"""The two servers to compare, our gateway and vLLM's own, with the same engine arguments.

    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder), model, NAME) as ours:
        ...

A server that waits for its turn can be stopped (`paused`), so that it takes no CPU time from the other one.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from gateway.engine.core.settings import EngineSettings, arguments, set_environment

ROOT = Path(__file__).parent.parent
START_SECONDS = 300
OURS_ALONE = ("--worker-extension-cls", "--distributed-executor-backend")
"""Arguments that bring our own code into the engine."""


class Server(NamedTuple):
    name: str
    port: int
    key: str
    model: str
    process: subprocess.Popen[bytes]
    seconds_to_ready: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def front_end_cpu_seconds(self) -> float:
        """CPU time of the process that clients talk to, including its threads."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop all its processes, and continue them at the end."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def gateway(folder: Path, model: Path, name: str, options: Sequence[str] = ()) -> Iterator[Server]:
    """Our service, ready to answer, with its data in `folder`. `options` are options of `python -m gateway`."""
    port, key = free_port(), f"sk-bread-{secrets.token_hex(8)}"
    command = ["gateway", "--port", str(port), "--model", str(model), "--model-name", name, "--api-key", key]
    with _running("ours", folder, [*command, *options], {}, port, key, name) as server:
        yield server


@contextlib.contextmanager
def stock(
    folder: Path, model: Path, name: str, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """vLLM's own server, ready to answer, with its log in `folder`.

    Args:
        options: more engine arguments, which override `engine_arguments`.
        environment: variables that override the inherited ones.
    """
    port, key = free_port(), f"sk-{secrets.token_hex(8)}"
    command = ["vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port), "--api-key", key]
    settings = EngineSettings(model=model, name=name)
    command += ["--disable-uvicorn-access-log", *engine_arguments(settings), *options]
    with _running("stock", folder, command, environment or {}, port, key, name) as server:
        yield server


def engine_arguments(settings: EngineSettings) -> list[str]:
    """Engine arguments of our service, without those that bring our code into the engine."""
    given = iter(arguments(settings, is_cpu=is_cpu()))
    return [word for word in given if not (word in OURS_ALONE and next(given))]


def is_cpu() -> bool:
    return not Path("/proc/driver/nvidia").exists()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def _running(
    kind: str, folder: Path, command: list[str], environment: Mapping[str, str], port: int, key: str, model: str
) -> Iterator[Server]:
    # Servers are in their own process groups: without this, a benchmark that is stopped would leave them running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder.mkdir(parents=True, exist_ok=True)
    set_environment(EngineSettings(model=Path(), name=model))  # the same threads and switches for both
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BREAD_")}
    started = time.monotonic()
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(process, port, key, model, log.name)
        yield Server(kind, port, key, model, process, time.monotonic() - started)
    finally:
        _end(process)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, key: str, model: str, log: str) -> None:
    """Wait until the server has generated one token."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
                answer.read()
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{Path(log).read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, then kill any process it left behind."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
