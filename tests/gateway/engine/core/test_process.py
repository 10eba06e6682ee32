"""The engine's processes: reasons why they do not start, and how they end."""

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from baker.errors import EngineError
from gateway.engine import Engine, EngineSettings
from gateway.engine.core.process import CORE_FAILED, EngineProcess, _kill, _why_not_started
from gateway.engine.patches.step_stats import Pulse
from tests.gateway.engines import (
    HELLO,
)

pytestmark = pytest.mark.anyio


async def test_a_folder_without_a_model_is_an_engine_error(tmp_path: Path) -> None:
    engine = Engine(EngineSettings(model=tmp_path, name="nothing"))
    with pytest.raises(EngineError, match="no model folder"):
        await engine.start()
    with pytest.raises(EngineError, match="not running"):
        await engine.generation.tokenise(HELLO)


async def test_arguments_that_vllm_does_not_know_are_an_engine_error(tiny_model: Path) -> None:
    engine = Engine(EngineSettings(model=tiny_model, name="tiny", extra_args=["--no-such-thing"]))
    with pytest.raises(EngineError, match="--no-such-thing"):
        await engine.start()


@pytest.fixture
def process(engine: Engine) -> EngineProcess:
    """A process around an engine that does nothing. The real engine imports vLLM."""
    core = SimpleNamespace(
        resources=SimpleNamespace(engine_dead=False), get_output_async=None, utility_results={}, ensure_alive=None
    )
    processor = SimpleNamespace(request_states={}, propagate_error=None)
    llm: Any = SimpleNamespace(errored=False, engine_core=core, output_processor=processor, generate=None)
    return EngineProcess(llm, None, Pulse())


async def test_a_call_that_never_returns_ends_with_the_engine(process: EngineProcess) -> None:
    llm: Any = process.llm
    calling = asyncio.create_task(process.unless_dead(asyncio.Event().wait()))
    await asyncio.sleep(0)
    llm.errored = True
    with pytest.raises(EngineError, match="died while it was being checked"):
        await calling
    llm.errored = False
    assert await process.unless_dead(asyncio.sleep(0, result="done")) == "done"


async def test_calls_that_still_wait_at_the_end_fail(process: EngineProcess) -> None:
    """vLLM leaves such calls waiting forever."""
    from vllm.v1.engine.exceptions import EngineDeadError

    llm: Any = process.llm
    call, finished = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()
    finished.set_result("done")
    errors: list[Exception] = []
    llm.engine_core.utility_results = {1: call, 2: finished}
    llm.output_processor.request_states = {"1": SimpleNamespace(queue=SimpleNamespace(put=errors.append))}
    process._fail_waiting()
    assert isinstance(call.exception(), EngineDeadError) and finished.result() == "done"
    assert [type(error).__mro__[1] for error in errors] == [EngineDeadError]
    assert not llm.engine_core.utility_results


def test_a_process_that_ended_while_it_loaded_points_to_the_log_and_to_memory(tmp_path: Path) -> None:
    settings = EngineSettings(model=tmp_path, name="model")
    text = _why_not_started(RuntimeError(f"{CORE_FAILED}. See root cause above."), settings)
    assert str(tmp_path) in text and "kv_cache_gib" in text and CORE_FAILED not in text
    assert _why_not_started(ValueError("no\n  such   option"), settings).endswith(": no such option")


TREE = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
tracker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "multiprocessing.resource_tracker"])
print("started", flush=True)
child.wait()
"""


def test_a_kill_reaches_descendants_and_spares_resource_trackers() -> None:
    root = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True)
    assert root.stdout is not None and root.stdout.readline() == "started\n"
    children = psutil.Process(root.pid).children(recursive=True)
    (tracker,) = (child for child in children if "multiprocessing.resource_tracker" in child.cmdline())
    try:
        core: Any = SimpleNamespace(pid=root.pid, is_alive=lambda: True)
        _kill([core])
        root.wait()
        ended, alive = psutil.wait_procs([child for child in children if child != tracker], timeout=5)
        assert len(ended) == 1 and not alive
        assert tracker.is_running()
    finally:
        tracker.kill()
        root.stdout.close()
