"""The engine: vLLM's AsyncLLM behind our own verbs; implements `baker.ports.Sampler` and `baker.ports.ServedModel`.

With its neighbours in this package it is the only place that imports vllm, and does so when it starts, not when it is
imported: that takes ten seconds, and the environment must be set before. The HTTP side of serving is `handlers.py`.

Order of effects: an adapter is loaded before a request for it enters the engine, since a load that fails within a
step kills the engine; it is removed after its last request ended.
"""

import asyncio
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baker.errors import AdapterError, EngineError, InvalidInputError, NotLentError
from baker.ports import LentWeights
from baker.types import Checkpoint, Distribution, Message, ParsedAnswer, Sample, SampleRequest, StopReason
from gateway.engine.adapters.loader import LoraLoader, lora_request
from gateway.engine.adapters.slots import BASE, AdapterCounts, AdapterTable, Lease
from gateway.engine.core import canary, sleep, usage
from gateway.engine.core.process import EngineProcess, build
from gateway.engine.core.settings import EngineSettings, set_environment
from gateway.engine.core.tools import parser_for
from gateway.engine.patches import chat_chunks
from gateway.engine.patches.death import GONE
from gateway.engine.worker.owner import OWNER_VARIABLE

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)

BUILD_SECONDS = 3600.0
"""How long an engine may take to load its model: large ones take half an hour from a slow disk."""
PROVE_SECONDS = 300.0
"""How long a new engine may take to its first token and the canary; some devices compile kernels then."""
POLL_SECONDS = 0.1
PROBE_TOOL = {
    "type": "function",
    "function": {"name": "zyzzyva", "description": "", "parameters": {"type": "object", "properties": {}}},
}

_IS_PROVING: ContextVar[bool] = ContextVar("is_proving", default=False)
"""True in the tasks that try a new engine out; nobody else may use it before it has proved itself."""


class Engine:
    """One base model and its adapters. May be started again after `stop`, and after it died."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._process: EngineProcess | None = None
        self._state: Any = None
        self._is_ready = False
        self._renders_tools = False
        self._canary = canary.Canary()
        self._sleep = sleep.Sleep()
        # Never reused, not even after a restart: two adapters with one id would silently share weights.
        self._adapter_ids = itertools.count(1)
        self._adapters = self._new_table()
        self._request_ids = itertools.count(1)

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
        """How many sequences are in one batch at most; 0 while there is no engine."""
        return 0 if self._process is None else int(self._process.llm.vllm_config.scheduler_config.max_num_seqs)

    @property
    def renders_tools(self) -> bool:
        """Whether the chat template shows tools to the model; some drop them without a word."""
        return self._renders_tools

    @property
    def is_ready(self) -> bool:
        return self._is_ready and not self.is_dead and not self.is_asleep

    @property
    def is_asleep(self) -> bool:
        return self._sleep.is_asleep

    @property
    def is_dead(self) -> bool:
        """Started once and then broken; only `stop` and `start` help."""
        return self._process is not None and self._process.is_dead

    @property
    def steps(self) -> int:
        """Results of steps that have come from the engine's processes since they were started: grows while it works."""
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

    async def start(self) -> None:
        """Build the engine and prove that it answers as the one before it did. The event loop stays free meanwhile.

        Raises: CanaryError if it answers otherwise; EngineError saying why it does not start. No child process is left
        then, nor when this is cancelled.
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
        self._sleep.end()  # one that died in its sleep

    async def stop(self) -> None:
        """End the engine and its processes. Requests still in flight are aborted; if it is dead, they fail."""
        self._is_ready = False
        process, self._process, self._state = self._process, None, None
        self._adapters.close(GONE)
        if process is not None:
            await process.end()

    def kill(self) -> None:
        """End an engine that hangs: it is dead a moment later, and requests in flight fail."""
        if self._process is not None:
            self._process.kill()

    async def probe(self) -> None:
        """Have the engine make one token. Raises: EngineError."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(max_tokens=1, output_kind=RequestOutputKind.FINAL_ONLY)
        await self._generate([0], params, BASE)

    @property
    def wants_canary(self) -> bool:
        """Whether an adapter is loaded and none vouches for later engines yet."""
        return self._canary.wants_adapter and self.is_ready and self._adapters.first() is not None

    async def record_canary(self) -> None:
        """Remember how a loaded adapter answers; the next engine must do so too. Raises: BakeryError, OSError."""
        if (adapter := self._adapters.first()) is not None:
            await self._canary.record_adapter(*adapter, self._canary_answer)

    async def wait_ready(self) -> None:
        """Until the engine answers: its start, or the next one after it died."""
        while not self.is_ready:  # noqa: ASYNC110 - vLLM tells of a death by a flag that a thread sets
            await asyncio.sleep(POLL_SECONDS)

    @property
    def sleep_share(self) -> float:
        """Of each device's memory, that comes free while the engine sleeps; 0 where it can't."""
        return 0.0 if self._process is None else sleep.share_of(self._process.llm)

    @property
    def lends_weights(self) -> bool:
        return self.settings.lends_weights

    async def lend_weights(self) -> LentWeights:
        """The base model's, for a training on this device (`lending.py`).

        Raises: NotLentError saying why there is nothing to lend; EngineError.
        """
        llm, process = self.running(), self._process
        assert process is not None
        try:
            found, *_ = await process.unless_dead(llm.collective_rpc("lend_weights"))
        except Exception as error:  # vLLM passes on what it likes
            if process.is_dead:
                raise EngineError(GONE) from error
            raise NotLentError(f"its worker can't say where they are: {error}") from error
        if isinstance(found, str):
            raise NotLentError(found)

        async def gone() -> None:
            while process is self._process and not process.is_dead:  # noqa: ASYNC110 - as above
                await asyncio.sleep(POLL_SECONDS)

        return LentWeights(bytes(found), gone)

    async def awake(self) -> None:
        """Until the engine is not asleep. Raises: EngineError if that takes long."""
        await self._sleep.over()

    async def sleep(self) -> None:
        """Give the device's memory back. What runs may end first, what comes waits or is told to come back; `wake` must
        follow in any case. Raises: EngineError.
        """
        llm, process = self.running(), self._process
        assert process is not None
        self._sleep.begin()
        waiting = lambda: self.adapter_counts.waiting + llm.get_num_unfinished_requests()  # noqa: E731 - the count now
        await process.unless_dead(sleep.fall_asleep(llm, waiting))

    async def wake(self) -> None:
        """Serve again, once the engine has proved that it answers as before; one that does not is killed, and the
        supervisor starts another."""
        process = self._process
        if self.is_asleep and process is not None and not process.is_dead:
            try:
                async with asyncio.timeout(PROVE_SECONDS):
                    await process.unless_dead(self._rouse(process))
            except Exception:  # whatever vLLM may say: it is of no use any more
                log.exception("the engine does not answer as before its sleep: another one is started")
                process.kill()
        self._sleep.end()

    async def _rouse(self, process: EngineProcess) -> None:
        _IS_PROVING.set(True)
        await process.llm.wake_up()
        await self.probe()
        await self._canary.check(self._canary_answer, self.load)

    async def tokenise(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        """The token ids of a chat up to and with the header of the assistant's turn, by serving's own renderer.

        Raises: InvalidInputError if the chat template refuses the messages; EngineError.
        """
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest

        from gateway.engine.core.sampling import complaint

        handler = self.serving.serving_tokenization
        try:
            request = TokenizeChatRequest(messages=list(messages), tools=tools or None, add_generation_prompt=True)
            reply = await handler.create_tokenize(request, None)
        except Exception as error:  # templates raise what they like: jinja errors, TypeError, KeyError
            raise InvalidInputError(f"the chat template refuses the messages: {complaint(error)[1]}") from error
        if isinstance(reply, ErrorResponse):
            raise InvalidInputError(f"the chat template refuses the messages: {reply.error.message}")
        return list(reply.tokens)

    async def sample(self, request: SampleRequest) -> Sample:
        """Continue `request.context_ids`; loads the adapter if need be. Cancelling it ends the work in the engine.

        Raises: InvalidInputError if the context does not fit the window or a setting is refused; AdapterError;
        EngineError.
        """
        llm = self.running()
        from gateway.engine.core import sampling

        params = sampling.sampling_params(
            request,
            window=self.max_model_len,
            max_logprobs=self.settings.max_logprobs,
            defaults=self._state.openai_serving_chat.default_sampling_params,
        )
        if request.adapter is not None:
            self.register(request.adapter.name, request.adapter.path)
        with await self.lease(request.adapter.name if request.adapter else None) as lease:
            output = await self._generate(request.context_ids, params, lease)
        if params.structured_outputs is not None and output.outputs[0].finish_reason == "error":
            raise InvalidInputError("the engine could not compile the grammar, or no text fits it: simplify it")
        text = None if params.detokenize else self._text(llm, output)
        return sampling.sample_of(output, request.top_logprobs, text)

    async def score(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: str | None = None
    ) -> list[float]:
        """Log-probability (nats) of each response token after the context, by the base model or a registered adapter.

        Raises: InvalidInputError if they don't fit the window; NotFoundError; AdapterError; EngineError.
        """
        from gateway.engine.core import sampling

        output = await self._read(context_ids, response_ids, 0, adapter)
        return sampling.prompt_scores(output, len(context_ids))

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        """What the base model or an adapter would have expected at each position of the response; loads the adapter
        if need be.

        Raises: InvalidInputError if they don't fit the window; AdapterError; EngineError.
        """
        from gateway.engine.core import sampling

        if adapter is not None:
            self.register(adapter.name, adapter.path)
        output = await self._read(context_ids, response_ids, top_logprobs, None if adapter is None else adapter.name)
        return sampling.prompt_distribution(output, len(context_ids), top_logprobs)

    async def _read(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: str | None
    ) -> "RequestOutput":
        """Both run through the model as a prompt. Computed anew every time: vLLM reads no cached prefix for it."""
        from gateway.engine.core import sampling

        ids = [*context_ids, *response_ids]
        if not context_ids or len(ids) >= self.max_model_len:
            raise InvalidInputError(
                f"{len(context_ids)} + {len(response_ids)} tokens can't be scored: the context needs at least one, "
                f"and both together fewer than the window's {self.max_model_len}"
            )
        with await self.lease(adapter) as lease:
            return await self._generate(ids, sampling.scoring_params(top_logprobs), lease)

    def read_answer(self, sample: Sample, tools: list[dict[str, Any]] | None) -> ParsedAnswer:
        """The answer as serving would return it, with calls of `tools` told apart from text."""
        if not tools:
            return ParsedAnswer(sample.text, [])
        from gateway.engine.core.tools import read_answer

        ids = sample.response_ids[:-1] if sample.stop_reason is StopReason.STOP else sample.response_ids
        parser = self.settings.tool_call_parser or parser_for(self.settings.model)
        return read_answer(parser, self.running().get_tokenizer(), ids, tools)

    @property
    def adapter_counts(self) -> AdapterCounts:
        return self._adapters.counts

    def is_loaded(self, name: str) -> bool:
        """Whether the adapter is in the engine now."""
        return self._adapters.is_resident(name)

    def in_flight(self, name: str) -> int:
        """Requests that use this adapter now."""
        return self._adapters.in_flight(name)

    def register(self, name: str, path: Path) -> None:
        """From now on `name` means the adapter in `path`, which is loaded when it is wanted and again after it had to
        make room. Its files must stay until `unload` has returned. A name that ends in `@<strength>` means the same
        adapter with its update scaled; `unload` of the name without it takes both.

        Raises: AdapterError if the name means another path.
        """
        self._adapters.register(name, path)

    async def lease(self, name: str | None) -> Lease:
        """Claim a registered adapter (None or the base model's name: the base model) for one request; waits for its
        turn at a slot, and for its weights.

        Raises: NotFoundError if it isn't registered; AdapterError if it can't be loaded; EngineError.
        """
        if name is None or name == self.name:
            return BASE
        self.running()
        return await self._adapters.claim(name)

    async def load(self, name: str, path: Path) -> None:
        """Register the adapter, if the engine takes it. Raises: AdapterError; EngineError."""
        is_new = not self._adapters.is_registered(name)
        self.register(name, path)
        try:
            (await self.lease(name)).release()
        except AdapterError:
            if is_new:
                await self.unload(name)
            raise

    def rename(self, name: str, new_name: str, path: Path) -> None:
        """A registered adapter whose files were moved to `path` has another name from now on, and stays in the engine
        if it is there; nothing happens if `name` isn't registered. Raises: AdapterError if `new_name` is.
        """
        self._adapters.rename(name, new_name, path)

    async def unload(self, name: str) -> None:
        """Forget the adapter, at every strength: no new request finds it, those in flight finish, then the engine drops
        its weights."""
        await self._adapters.forget(name)

    def tokens_so_far(self, request_id: str) -> tuple[int, int] | None:
        """Tokens that a running request has read and written, by the engine's id; None if there is no such request."""
        return None if self._process is None else usage.tokens_so_far(self._process.llm.output_processor, request_id)

    def metrics(self) -> bytes:
        """vLLM's metrics in Prometheus' text format; none before the first start, since importing it takes seconds."""
        if "vllm.v1.metrics.prometheus" not in sys.modules:
            return b""
        from prometheus_client import generate_latest
        from vllm.v1.metrics.prometheus import get_prometheus_registry

        return generate_latest(get_prometheus_registry())

    def _new_table(self) -> AdapterTable:
        settings = self.settings
        return AdapterTable(
            LoraLoader(self), self._adapter_ids, slots=settings.max_loras, copies=settings.max_cpu_loras
        )

    async def _generate(self, ids: Sequence[int], params: "SamplingParams", lease: Lease) -> "RequestOutput":
        from vllm.exceptions import VLLMClientError, VLLMError
        from vllm.inputs import tokens_input

        from gateway.engine.core.sampling import refusal

        llm = self.running()
        final: RequestOutput | None = None
        adapter = lease.adapter
        outputs = llm.generate(
            tokens_input(list(ids)),
            params,
            f"bread-{next(self._request_ids)}",
            lora_request=None if adapter is None else lora_request(adapter.name, adapter.number, adapter.path),
        )
        try:
            async for output in outputs:
                final = output
        except VLLMClientError as error:
            raise refusal(error) from error
        except VLLMError as error:
            raise EngineError(f"the engine failed: {error}") from error
        assert final is not None
        return final

    def _text(self, llm: "AsyncLLM", output: "RequestOutput") -> str:
        return str(llm.get_tokenizer().decode(output.outputs[0].token_ids, skip_special_tokens=True))

    async def _prove(self, process: EngineProcess) -> None:
        """The first token takes seconds, since kernels are set up for it: better now than for the first client."""
        _IS_PROVING.set(True)
        self._state = await _serving_state(process)
        self._renders_tools = await self._find_out_renders_tools()
        await self.probe()
        await self._canary.check(self._canary_answer, self.load)

    async def _canary_answer(self, adapter: str | None) -> canary.Answer:
        from gateway.engine.core import sampling

        ids = self.running().get_tokenizer().encode(canary.TEXT, add_special_tokens=False)[: self.max_model_len // 2]
        with await self.lease(adapter) as lease:
            return sampling.canary_answer(await self._generate(ids, sampling.canary_params(), lease))

    async def _find_out_renders_tools(self) -> bool:
        chat: list[Message] = [{"role": "user", "content": "Hello"}]
        try:
            return await self.tokenise(chat) != await self.tokenise(chat, [PROBE_TOOL])
        except InvalidInputError:  # no chat template at all, or one that refuses this tool
            return False


async def _serving_state(process: EngineProcess) -> Any:
    """vLLM's OpenAI handlers, without its web framework."""
    from starlette.datastructures import State
    from vllm import envs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state

    from gateway.engine.patches import forced_tools

    forced_tools.install(process.arguments.tool_call_parser)
    state = State()
    await init_app_state(process.llm, state, process.arguments, await process.llm.get_supported_tasks())
    chat_chunks.install(state.openai_serving_chat)
    envs.enable_envs_cache()  # or it reads the environment for every request and result: 4 % of the front end's time
    return state
