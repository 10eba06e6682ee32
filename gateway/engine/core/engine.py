"""The life of one engine: started, proved, put to sleep, stopped or killed; its weights, lent; its adapters.

Implements `baker.ports.ServedModel`. The model itself is asked through `Engine.generation` (`generation.py`) and, with
the bodies of HTTP requests, through `requests/handlers.py`.

Nothing outside `gateway.engine` imports vLLM, and this module does so only when the engine starts: importing it takes
ten seconds, and the environment must be set first.

Order of effects: an adapter is loaded before a request for it enters the engine, because a load that fails within a
step kills the engine; it is removed after its last request has ended.

A little over 300 lines: it offers what the baker, the registry and the supervisor each need, mostly in one line each.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baker.errors import AdapterError, EngineError
from baker.ports import LentWeights
from gateway.engine.adapters.loader import LoraLoader
from gateway.engine.adapters.slots import BASE, AdapterCounts, AdapterTable, Lease
from gateway.engine.core import canary, lending, serving, sleep, usage
from gateway.engine.core.generation import Generation
from gateway.engine.core.process import EngineProcess, build
from gateway.engine.core.settings import EngineSettings, set_environment
from gateway.engine.patches.death import GONE
from gateway.engine.worker.owner import OWNER_VARIABLE

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)

BUILD_SECONDS = 3600.0
"""Limit for loading the model: large ones take half an hour from a slow disk."""
PROVE_SECONDS = 300.0
"""Limit for a new engine's first token and the canary; some devices compile kernels then."""
POLL_SECONDS = 0.1

_IS_PROVING: ContextVar[bool] = ContextVar("is_proving", default=False)
"""True in the tasks that test a new engine; nobody else may use it before it has passed."""


class Engine:
    """One base model and its adapters. May be started again after `stop`, and after it died."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.generation = Generation(self)
        """Implements `baker.ports.Sampler`."""
        self._process: EngineProcess | None = None
        self._state: Any = None
        self._is_ready = False
        self._canary = canary.Canary()
        self._sleep = sleep.Sleep()
        # Never reused, not even after a restart: two adapters with one id would silently share weights.
        self._adapter_ids = itertools.count(1)
        self._adapters = self._new_table()

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def path(self) -> Path:
        return self.settings.model

    @property
    def max_lora_rank(self) -> int:
        return self.settings.max_lora_rank

    @property
    def max_model_len(self) -> int:
        """The context window in tokens. Raises: EngineError before the start."""
        return int(self.running().model_config.max_model_len)

    @property
    def max_num_seqs(self) -> int:
        """Most sequences in one batch; 0 while there is no engine."""
        return 0 if self._process is None else int(self._process.llm.vllm_config.scheduler_config.max_num_seqs)

    # State

    @property
    def is_ready(self) -> bool:
        return self._is_ready and not self.is_dead and not self.is_asleep

    @property
    def is_asleep(self) -> bool:
        return self._sleep.is_asleep

    @property
    def is_dead(self) -> bool:
        """It started and then broke; only `stop` and `start` help."""
        return self._process is not None and self._process.is_dead

    @property
    def steps(self) -> int:
        """Number of step results received from the engine's processes since their start; grows while it works."""
        return 0 if self._process is None else self._process.pulse.steps

    @property
    def serving(self) -> Any:
        """vLLM's state object with its OpenAI handlers. Raises: EngineError if the engine can't answer."""
        self.running()
        return self._state

    def running(self) -> "AsyncLLM":
        """vLLM's engine. Raises: EngineError if it can't answer."""
        if self._process is None or not (self._is_ready or _IS_PROVING.get()):
            raise EngineError("the engine is not running yet: try again in a few seconds")
        if self.is_asleep and not _IS_PROVING.get():
            raise EngineError(sleep.ASLEEP)
        if self._process.is_dead:
            raise EngineError(GONE)
        return self._process.llm

    # From start to stop

    async def start(self) -> None:
        """Build the engine and check that it answers as the one before it did. The event loop stays free meanwhile.

        Raises: CanaryError if its answers differ; EngineError with the reason if it does not start. Then, and when
        this is cancelled, no child process is left.
        """
        set_environment(self.settings)
        os.environ[OWNER_VARIABLE] = str(os.getpid())
        self._adapters = self._new_table()
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                process = self._process = await build(self.settings)
        except TimeoutError as error:
            raise EngineError(f"the engine had not loaded its model after {BUILD_SECONDS:.0f} s") from error
        try:
            async with asyncio.timeout(PROVE_SECONDS):
                await process.unless_dead(self._prove(process))
        except TimeoutError as error:
            self.kill()
            await self.stop()
            raise EngineError(f"the engine gave no token within {PROVE_SECONDS:.0f} s of its start") from error
        except BaseException:
            await self.stop()
            raise
        self._is_ready = True
        self._sleep.end()  # the engine before may have died asleep

    async def _prove(self, process: EngineProcess) -> None:
        """The first token takes seconds, since kernels are set up for it: better now than for the first client."""
        _IS_PROVING.set(True)
        self._state = await serving.serving_state(process)
        await self.generation.detect_tool_rendering()
        await self._check_answers()

    async def _check_answers(self) -> None:
        await self.probe()
        await self._canary.check(self.generation.canary_answer, self.load)

    async def stop(self) -> None:
        """End the engine and its processes. Aborts requests in flight; if the engine is dead, they fail."""
        self._is_ready = False
        process, self._process, self._state = self._process, None, None
        self._adapters.close(GONE)
        if process is not None:
            await process.end()

    def kill(self) -> None:
        """End an engine that hangs: it is dead a moment later, and requests in flight fail."""
        if self._process is not None:
            self._process.kill()

    async def wait_ready(self) -> None:
        """Wait until the engine answers: for its start, or for the next one after it died."""
        while not self.is_ready:  # noqa: ASYNC110 - vLLM reports a death by a flag that a thread sets
            await asyncio.sleep(POLL_SECONDS)

    async def probe(self) -> None:
        """Have the engine generate one token. Raises: EngineError."""
        await self.generation.probe()

    @property
    def wants_canary(self) -> bool:
        """Whether an adapter is loaded while none is recorded to check later engines with."""
        return self._canary.wants_adapter and self.is_ready and self._adapters.first() is not None

    async def record_canary(self) -> None:
        """Record how a loaded adapter answers; later engines must answer the same. Raises: BakeryError, OSError."""
        if (adapter := self._adapters.first()) is not None:
            await self._canary.record_adapter(*adapter, self.generation.canary_answer)

    # Weights and memory, for a training

    @property
    def lends_weights(self) -> bool:
        return self.settings.lends_weights

    async def lend_weights(self) -> LentWeights:
        """The base model's weights, for a training on this device (`lending.py`).

        Raises: NotLentError with the reason if there is nothing to lend; EngineError.
        """
        self.running()
        process = self._process
        assert process is not None
        return await lending.lend_weights(process, lambda: process is self._process)

    @property
    def sleep_share(self) -> float:
        """Share of each device's memory that becomes free while the engine sleeps; 0 if it can't sleep."""
        return 0.0 if self._process is None else sleep.share_of(self._process.llm)

    async def sleep(self) -> None:
        """Free the device's memory. Running requests may finish first; new ones wait for `wake` or are refused after
        a while. `wake` must follow in any case. Raises: EngineError.
        """
        llm, process = self.running(), self._process
        assert process is not None
        self._sleep.begin()

        def unfinished() -> int:
            return int(self.adapter_counts.waiting + llm.get_num_unfinished_requests())

        await process.unless_dead(sleep.fall_asleep(llm, unfinished))

    async def awake(self) -> None:
        """Wait until the engine is awake. Raises: EngineError if that takes long."""
        await self._sleep.over()

    async def wake(self) -> None:
        """Serve again, once the engine has proved that it answers as before; if it does not, it is killed, and the
        supervisor starts another."""
        process = self._process
        if self.is_asleep and process is not None and not process.is_dead:
            try:
                async with asyncio.timeout(PROVE_SECONDS):
                    await process.unless_dead(self._rouse(process))
            except Exception:  # whatever vLLM raises: the engine can't be used any more
                log.exception("the engine does not answer as before its sleep: starting another one")
                process.kill()
        self._sleep.end()

    async def _rouse(self, process: EngineProcess) -> None:
        _IS_PROVING.set(True)
        await process.llm.wake_up()
        await self._check_answers()

    # Adapters

    @property
    def adapter_counts(self) -> AdapterCounts:
        return self._adapters.counts

    def is_loaded(self, name: str) -> bool:
        """Whether the adapter is in the engine now."""
        return self._adapters.is_resident(name)

    def in_flight(self, name: str) -> int:
        """Number of requests that use this adapter now."""
        return self._adapters.in_flight(name)

    def register(self, name: str, path: Path) -> None:
        """Let `name` mean the adapter in `path` from now on. It is loaded on demand, and again after an eviction, so
        its files must stay until `unload` has returned. A name that ends in `@<strength>` means the same adapter with
        its update scaled; `unload` of the name without it takes both.

        Raises: AdapterError if the name means another path.
        """
        self._adapters.register(name, path)

    async def lease(self, name: str | None) -> Lease:
        """Claim a registered adapter (None or the base model's name: the base model) for one request; waits for a slot
        and for the adapter's weights.

        Raises: NotFoundError if it isn't registered; AdapterError if it can't be loaded; EngineError.
        """
        if name is None or name == self.name:
            return BASE
        self.running()
        return await self._adapters.claim(name)

    async def load(self, name: str, path: Path) -> None:
        """Register the adapter, if the engine accepts it. Raises: AdapterError; EngineError."""
        is_new = not self._adapters.is_registered(name)
        self.register(name, path)
        try:
            (await self.lease(name)).release()
        except AdapterError:
            if is_new:
                await self.unload(name)
            raise

    async def score(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: str | None = None
    ) -> list[float]:
        """See `Generation.score`; with `load` and `unload`, what the registry proves an adapter by."""
        return await self.generation.score(context_ids, response_ids, adapter)

    def rename(self, name: str, new_name: str, path: Path) -> None:
        """Give a registered adapter, whose files were moved to `path`, another name; it stays in the engine if it is
        there. Does nothing if `name` isn't registered. Raises: AdapterError if `new_name` is.
        """
        self._adapters.rename(name, new_name, path)

    async def unload(self, name: str) -> None:
        """Forget the adapter, at every strength: new requests can't use it, those in flight finish, then the engine
        drops its weights."""
        await self._adapters.forget(name)

    def _new_table(self) -> AdapterTable:
        settings = self.settings
        return AdapterTable(
            LoraLoader(self), self._adapter_ids, slots=settings.max_loras, copies=settings.max_cpu_loras
        )

    # Counters

    def tokens_so_far(self, request_id: str) -> tuple[int, int] | None:
        """Tokens that a running request has read and written, by the engine's id; None if there is no such request."""
        return None if self._process is None else usage.tokens_so_far(self._process.llm.output_processor, request_id)

    def metrics(self) -> bytes:
        """vLLM's metrics in Prometheus' text format; empty before the first start."""
        return serving.metrics()
