"""The service's process: its lock, logging, signals, and the text on the terminal."""

import asyncio
import gc
import io
import logging
import os
import resource
import signal
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from baker.errors import ConfigError
from gateway import server
from gateway.config import Settings
from gateway.observability.log_format import JsonFormatter, TextFormatter

pytestmark = pytest.mark.anyio


@pytest.fixture
def levels() -> Iterator[None]:
    """Restores the levels of loggers and the filters of warnings."""
    names = (None, "anthropic", "httpx", "httpcore", "uvicorn", "vllm", "vllm.triton_utils")
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        yield
    for logger, level in loggers.items():
        logger.setLevel(level)


def test_a_second_service_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with server._only_service_of(tmp_path):
        with pytest.raises(ConfigError, match="--home"), server._only_service_of(tmp_path):
            pass
        with pytest.raises(ConfigError), server._only_service_of(tmp_path):
            pass
    with server._only_service_of(tmp_path):
        pass


def test_a_wrong_setting_ends_the_process_with_its_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert server.serve(["--port", "many"]) == server.EXIT_CONFIG
    assert capsys.readouterr().err.startswith("gateway: --port is 'many'")
    assert list(tmp_path.iterdir()) == [], "nothing was created"


def test_a_service_that_can_t_write_its_env_file_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "gone"
    server._write_env_file(folder, "a-secret-key", "http://here")
    assert str(folder / ".env") in caplog.text and "No such file or directory" in caplog.text
    assert "a-secret-key" not in caplog.text


@pytest.mark.parametrize(("name", "formatter"), [("text", TextFormatter), ("json", JsonFormatter)])
@pytest.mark.usefixtures("levels")
def test_the_log_has_the_chosen_format_and_level(monkeypatch: pytest.MonkeyPatch, name: Any, formatter: type) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    server._set_up_logging(Settings(log_format=name, log_level="warning"))
    (handler,) = root.handlers
    assert isinstance(handler.formatter, formatter)
    assert root.level == logging.WARNING
    assert logging.getLogger("vllm").level == logging.WARNING


@pytest.mark.usefixtures("levels")
def test_libraries_are_only_verbose_at_the_debug_level() -> None:
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    server._set_up_logging(Settings(log_level="debug"))
    assert logging.getLogger("httpx").level == logging.NOTSET


def test_the_limit_of_open_files_is_raised_but_never_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    for now in ((1024, 4096), (1024, resource.RLIM_INFINITY), (4096, 4096), (resource.RLIM_INFINITY,) * 2):
        monkeypatch.setattr(resource, "getrlimit", lambda _, now=now: now)
        server._allow_open_files()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 20))
    server._allow_open_files()
    assert limits == [(4096, 4096), (server.MAX_OPEN_FILES, resource.RLIM_INFINITY)]


def test_objects_of_the_start_are_left_out_of_garbage_collection() -> None:
    before = gc.get_freeze_count()
    try:
        server._freeze_gc()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


def test_the_greeting_names_model_and_key_and_what_to_try(tmp_path: Path) -> None:
    out = io.StringIO()
    server._greet(out, "http://127.0.0.1:8080", tmp_path / "master.key", "a/model")
    assert out.getvalue() == (
        "\nReady: http://127.0.0.1:8080\n"
        "  model: a/model\n"
        f"  key:   {tmp_path}/master.key\n"
        "Try next, in another terminal:\n"
        "  python3 examples/first_bake.py       # bakes a prompt into the model and shows the difference\n"
        "  python3 chat_with_model.py --model a/model\n"
        f'  curl http://127.0.0.1:8080/v1/models -H "Authorization: Bearer $(cat {tmp_path}/master.key)"\n\n'
    )
    out = io.StringIO()
    server._greet(out, "http://127.0.0.1:8080", None, "a/model")
    assert "  key:   BREAD_API_KEY\n" in out.getvalue() and 'Bearer $BREAD_API_KEY"' in out.getvalue()


async def test_a_requested_stop_does_not_raise_the_signal_again(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    process = server._Server(uvicorn.Config(lambda: None))
    with process.capture_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        while not process.should_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert raised == []


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
async def test_the_kernel_drops_connections_that_take_no_data() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    process = server._Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    process.stall_seconds = 7.5
    process.config.load()
    process.lifespan = process.config.lifespan_class(process.config)
    await process.startup()
    try:
        (listening,) = process.servers[0].sockets
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
    finally:
        await process.shutdown()
