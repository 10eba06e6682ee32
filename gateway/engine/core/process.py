"""One life of vLLM's engine: builds its processes, notices their death, ends them. `engine.Engine` uses them.

The engine core and its workers are child processes. Every wait here has a limit: a process that was stopped, hangs or
is still loading is killed.
"""

import asyncio
import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Coroutine, Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from baker.errors import EngineError
from gateway.engine.core.settings import EngineSettings, arguments, read_config
from gateway.engine.patches import json_whitespace
from gateway.engine.patches.aborts import refuse_aborted
from gateway.engine.patches.death import explain_death, gone_error
from gateway.engine.patches.step_stats import Pulse, prometheus_logger
from gateway.engine.patches.turns import take_turns

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)

Result = TypeVar("Result")

POLL_SECONDS = 0.1
ABORT_SECONDS = 5.0
"""Time that `end` gives requests to end as aborted; a healthy engine needs 30 ms."""
END_SECONDS = 15.0
"""Time that the processes have to end on their own; they take 2 to 4 s."""
SLOW_IMPORTS = (
    "torch",
    "transformers",
    "vllm.config",
    "vllm.engine.arg_utils",
    "vllm.v1.engine.async_llm",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.launchers.api_server.app_state",
)
"""Ten seconds together, in the thread that builds. One by one, so that a build can be cancelled between two of them."""
CORE_NAME = "EngineCore"
"""Start of the process name that vLLM gives its engine core."""
CORE_FAILED = "Engine core initialization failed"
"""vLLM 0.32 (`v1/engine/utils.py`, `wait_for_engine_startup`) raises a bare RuntimeError with this text when its child
process ends while it starts; the cause is only in that process's log."""


class EngineProcess:
    """A running engine core with its workers."""

    def __init__(self, llm: "AsyncLLM", arguments: Any, pulse: "Pulse") -> None:
        self.llm = llm
        self.arguments = arguments
        """As vLLM parsed its command line."""
        self.pulse = pulse
        explain_death(llm)
        refuse_aborted(llm)
        json_whitespace.install()
        take_turns(llm.engine_core)

    @property
    def is_dead(self) -> bool:
        return bool(self.llm.errored)

    async def unless_dead(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`.

        Raises: EngineError if the engine dies first; some of vLLM's calls would then wait forever.
        """
        task = asyncio.create_task(work)
        try:
            while not task.done():
                if self.is_dead:
                    raise EngineError("the engine died while it was being checked")
                await asyncio.wait({task}, timeout=POLL_SECONDS)
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def kill(self) -> None:
        """Kill the processes, even stopped ones; vLLM notices the death and ends all requests with an error."""
        _kill(self.llm.engine_core.resources.engine_manager.processes)

    async def end(self) -> None:
        """End the processes. Aborts requests in flight; if the engine is dead, they fail."""
        llm = self.llm
        if not self.is_dead:
            try:
                await asyncio.wait_for(llm.pause_generation(mode="abort", clear_cache=False), ABORT_SECONDS)
            except TimeoutError:
                self.kill()
            except Exception as error:
                log.debug("nothing was aborted: %s", error)
        if llm.output_handler is not None:
            # Otherwise it finds its socket closed, and reports a death with a stack trace.
            llm.output_handler.cancel()
            await asyncio.gather(llm.output_handler, return_exceptions=True)
        self._fail_waiting()
        # vLLM gets more time than we wait: its kill would end the resource trackers too, and leave shared memory.
        ending = asyncio.ensure_future(asyncio.to_thread(llm.shutdown, timeout=2 * END_SECONDS))
        await asyncio.wait({ending}, timeout=END_SECONDS)
        if not ending.done():
            self.kill()
            await asyncio.wait({ending}, timeout=END_SECONDS)
        if ending.done():
            # vLLM leaves this to the garbage collector, which warns, and may run as late as the interpreter's end.
            closing = asyncio.ensure_future(asyncio.to_thread(llm.engine_core.resources.ctx.destroy, linger=0))
            await asyncio.wait({closing}, timeout=ABORT_SECONDS)

    def _fail_waiting(self) -> None:
        """Fail requests that could not be aborted, and calls such as add_lora, which vLLM leaves waiting forever."""
        for state in self.llm.output_processor.request_states.values():
            state.queue.put(gone_error())
        for future in self.llm.engine_core.utility_results.values():
            if not future.done():
                future.set_exception(gone_error())
        self.llm.engine_core.utility_results.clear()


async def build(settings: EngineSettings) -> EngineProcess:
    """Start the processes and wait until they have loaded the model; the event loop stays free.

    When cancelled, it first ends what it has started, which takes a second or the rest of one import.
    Raises: EngineError with the reason why it does not start; no child process is left then.
    """
    is_unwanted = threading.Event()
    building = asyncio.ensure_future(asyncio.to_thread(_build, settings, is_unwanted))
    try:
        return await asyncio.shield(building)
    except asyncio.CancelledError:
        # A thread can't be stopped, but the processes that it waits for can.
        is_unwanted.set()
        while not building.done():
            _kill(child for child in multiprocessing.active_children() if child.name.startswith(CORE_NAME))
            await asyncio.wait({building}, timeout=POLL_SECONDS)
        if building.exception() is None:
            await building.result().end()
        raise


def _build(settings: EngineSettings, is_unwanted: threading.Event) -> EngineProcess:
    try:
        read_config(settings.model)
    except (OSError, ValueError) as error:
        raise EngineError(f"{settings.model} is no model folder in Hugging Face's format: {error}") from error

    def check_wanted() -> None:
        if is_unwanted.is_set():
            raise EngineError("the start was cancelled")

    for module in SLOW_IMPORTS:
        importlib.import_module(module)
        check_wanted()
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    from gateway.engine.worker.executor import threads

    class OwnedLLM(AsyncLLM):  # type: ignore[misc]  # vLLM's classes are Any to us
        def __del__(self) -> None:
            """Nothing: `end` has shut it down, and vLLM's version tries again while the interpreter ends, and fails."""

    command_line = arguments(settings, is_cpu=bool(current_platform.is_cpu()))
    pulse = Pulse()
    try:
        args = make_arg_parser(FlexibleArgumentParser()).parse_args(command_line)
        engine_args = AsyncEngineArgs.from_cli_args(args)
        check_wanted()
        config = engine_args.create_engine_config(UsageContext.OPENAI_API_SERVER)
        with threads(config):
            llm = OwnedLLM.from_vllm_config(
                config,
                usage_context=UsageContext.OPENAI_API_SERVER,
                stat_loggers=[pulse.logger, prometheus_logger()],
                enable_log_requests=engine_args.enable_log_requests,
                disable_log_stats=engine_args.disable_log_stats,
            )
    except SystemExit as error:  # argparse has printed the reason
        raise EngineError(f"vLLM refuses the arguments: {' '.join(command_line)}") from error
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(_why_not_started(error, settings)) from error
    return EngineProcess(llm, args, pulse)


def _why_not_started(error: Exception, settings: EngineSettings) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and CORE_FAILED in text:
        text = (
            "its process ended while it loaded the model; the log above has the reason. Often it is memory: lower "
            "kv_cache_gib, max_model_len or max_loras"
        )
    return f"the engine did not start with {settings.model}: {text}"


def _kill(engine_cores: Iterable[BaseProcess]) -> None:
    """kill -9 these processes and their descendants, except resource trackers.

    The trackers end on their own at once, and remove shared memory that nothing else would remove.
    """
    for core in engine_cores:
        if core.pid is not None and core.is_alive():
            for pid in [*_descendants(core.pid), core.pid]:
                if not _is_resource_tracker(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    pids: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                pids += [*_descendants(child), child]
    return pids


def _is_resource_tracker(pid: int) -> bool:
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
