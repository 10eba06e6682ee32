"""The service's process: settings, base model, uvicorn on uvloop, signals, and the text on the terminal."""

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import uvicorn
import uvloop

from baker.errors import BakeryError, ConfigError
from baker.model_names import BaseModelNames
from baker.storage.home import LOCK, MASTER_KEY
from gateway.access.secrets import master_key, write_env_file
from gateway.app import build_app, build_services
from gateway.config import Settings, read_settings
from gateway.engine import Engine, EngineSettings
from gateway.http.connections import Connection
from gateway.observability.log_format import JsonFormatter, TextFormatter
from gateway.serving.base_model import choose_base_model

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 65  # longer than the clients' connection pools keep an idle connection
MAX_OPEN_FILES = 65_536
"""Each connection takes one. Many systems allow 1,024 unless a process raises its limit."""

EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130


def serve(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns: exit code of the process."""
    folder = Path.cwd()
    try:
        settings = read_settings(arguments, os.environ, folder)
        home = Path(settings.home).resolve()
        home.mkdir(parents=True, exist_ok=True)
        with _only_service_of(home):
            _set_up_logging(settings)
            _allow_open_files()
            engine_settings, base = choose_base_model(settings, home)
            return uvloop.run(_serve(settings, home, folder, engine_settings, base))
    except (BakeryError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


@contextlib.contextmanager
def _only_service_of(home: Path) -> Iterator[None]:
    """Lock the folder, since two services would run each job twice. The kernel frees the lock however this process
    ends."""
    with (home / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another service uses {home}: stop it, or choose another --home") from error
        yield


def _set_up_logging(settings: Settings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    if settings.log_level != "debug":
        for chatty in ("anthropic", "httpcore", "httpx", "uvicorn", "vllm"):
            logging.getLogger(chatty).setLevel("WARNING")
        logging.getLogger("vllm.triton_utils").setLevel("ERROR")
        warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")


def _allow_open_files() -> None:
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if most == resource.RLIM_INFINITY else min(most, MAX_OPEN_FILES)
    if allowed not in (resource.RLIM_INFINITY, wanted) and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _serve(
    settings: Settings, home: Path, folder: Path, engine_settings: EngineSettings, base: BaseModelNames
) -> int:
    key = master_key(settings, home)
    services = build_services(settings, home, key, Engine(engine_settings), base)
    failures: list[BaseException] = []

    def on_ready() -> None:
        _freeze_gc()
        # Not settings.base_url: a .env from an earlier start may name another port.
        url = f"http://{settings.host}:{_port(server)}"
        _write_env_file(folder, key, settings.base_url or url)
        key_file = home / MASTER_KEY
        is_ours = key_file.exists() and key_file.read_text().strip() == key
        _greet(sys.stdout, url, key_file if is_ours else None, base.served)

    def on_failure(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    server = _Server(
        uvicorn.Config(
            build_app(services, on_ready, on_failure),
            host=settings.host,
            port=settings.port,
            http=Connection,
            loop="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=settings.grace_seconds,
        )
    )
    server.stall_seconds = settings.stream_stall_seconds
    print("Starting: the engine takes about half a minute.", flush=True)
    await server.serve()
    for failure in failures:
        print(f"gateway: {failure}", file=sys.stderr)
    print("Stopped.", flush=True)
    return 1 if failures or not server.started else 0


def _write_env_file(folder: Path, key: str, base_url: str) -> None:
    try:
        write_env_file(folder, key, base_url)
    except OSError as error:  # the service works without it
        log.warning("could not write %s, which tells clients the address and the key: %s", folder / ".env", error)


def _freeze_gc() -> None:
    """Exempt all present objects, mostly vLLM's modules, from garbage collection: streams wait while it runs."""
    gc.collect()
    gc.freeze()


class _Server(uvicorn.Server):
    stall_seconds = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's own startup; then have the kernel drop connections if the client stops reading.

        `inference/delivery.py` ends such a stream sooner, but without this the kernel keeps the data that is already
        written for as long as the client answers its probes. Connections inherit the option.
        """
        await super().startup(sockets)
        if self.stall_seconds and hasattr(socket, "TCP_USER_TIMEOUT"):
            for listening in (each for server in self.servers for each in server.sockets):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * self.stall_seconds))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own, but without raising the signal again at the end: a requested stop exits with 0."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


def _port(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def _greet(out: IO[str], url: str, key_file: Path | None, model: str) -> None:
    where, key = ("BREAD_API_KEY", "$BREAD_API_KEY") if key_file is None else (str(key_file), f"$(cat {key_file})")
    print(
        f"\nReady: {url}\n"
        f"  model: {model}\n"
        f"  key:   {where}\n"
        "Try next, in another terminal:\n"
        "  python3 examples/first_bake.py       # bakes a prompt into the model and shows the difference\n"
        f"  python3 chat_with_model.py --model {model}\n"
        f'  curl {url}/v1/models -H "Authorization: Bearer {key}"\n',
        file=out,
        flush=True,
    )
