"""The engine: vLLM's AsyncLLM behind our own verbs; implements `baker.ports.Sampler` and `baker.ports.BaseModel`.

With its neighbours in this package it is the only place that imports vllm, and does so when it starts, not when it is
imported: that takes ten seconds, and the environment must be set before. The HTTP side of serving is `handlers.py`.

Order of effects: an adapter is loaded before its name can be asked for, since a load that fails within a request kills
the engine; it is removed after its last request ended.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baker.errors import AdapterError, EngineError, InvalidInputError
from baker.types import Message, Sample, SampleRequest
from gateway.engine.adapters import AdapterTable, Lease, LoadedAdapter
from gateway.engine.owner import OWNER_VARIABLE
from gateway.engine.settings import EngineSettings, arguments, read_config, set_environment

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)

ABORT_SECONDS = 5.0
"""How long `stop` lets requests end as aborted; a healthy engine needs 30 ms."""
POLL_SECONDS = 0.1
PROBE_TOOL = {
    "type": "function",
    "function": {"name": "zyzzyva", "description": "", "parameters": {"type": "object", "properties": {}}},
}


class Engine:
    """One base model and its adapters. May be started again after `stop`, and after it died."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._llm: AsyncLLM | None = None
        self._state: Any = None
        self._is_ready = False
        self._renders_tools = False
        self._adapters = AdapterTable()
        self._loading: dict[str, asyncio.Task[None]] = {}
        # Never reused, not even after a restart: two adapters with one id would silently share weights.
        self._adapter_ids = itertools.count(1)
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
    def renders_tools(self) -> bool:
        """Whether the chat template shows tools to the model; some drop them without a word."""
        return self._renders_tools

    @property
    def is_ready(self) -> bool:
        return self._is_ready and not self.is_dead

    @property
    def is_dead(self) -> bool:
        """Started once and then broken; only `stop` and `start` help."""
        return self._llm is not None and bool(self._llm.errored)

    @property
    def serving(self) -> Any:
        """vLLM's state object with its OpenAI handlers. Raises: EngineError if the engine can't answer."""
        self.running()
        return self._state

    def running(self) -> "AsyncLLM":
        """vLLM's engine. Raises: EngineError if it can't answer."""
        if self._llm is None:
            raise EngineError("the engine is not running yet: try again in a few seconds")
        if self._llm.errored:
            raise EngineError("the engine has died and must be restarted: try again in a minute")
        return self._llm

    async def start(self) -> None:
        """Build the engine and prove that it answers. The event loop stays free meanwhile.

        Raises: EngineError saying why it does not start; no child process is left then.
        """
        set_environment(self.settings)
        os.environ[OWNER_VARIABLE] = str(os.getpid())
        self._adapters = AdapterTable()
        building = asyncio.ensure_future(asyncio.to_thread(_build, self.settings))
        try:
            self._llm, args = await asyncio.shield(building)
            self._state = await _serving_state(self._llm, args)
            self._renders_tools = await self._find_out_renders_tools()
            await self._prove_ready()
        except asyncio.CancelledError:
            # The thread can't be stopped, so what it builds is thrown away when it is done.
            building.add_done_callback(_discard)
            await self.stop()
            raise
        except BaseException:
            await self.stop()
            raise
        self._is_ready = True

    async def stop(self) -> None:
        """End the engine and its processes. Requests still in flight end with EngineError."""
        self._is_ready = False
        llm, self._llm, self._state = self._llm, None, None
        if llm is None:
            return
        if not llm.errored:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(llm.pause_generation(mode="abort", clear_cache=False), ABORT_SECONDS)
        await asyncio.to_thread(llm.shutdown)

    async def wait_ready(self) -> None:
        """Until the engine answers: its start, or the next one after it died."""
        while not self.is_ready:  # noqa: ASYNC110 - vLLM tells of a death by a flag that a thread sets
            await asyncio.sleep(POLL_SECONDS)

    async def wait_dead(self) -> None:
        """Until the engine has died; whoever keeps it running then calls `stop` and `start`."""
        while not self.is_dead:  # noqa: ASYNC110 - see wait_ready
            await asyncio.sleep(POLL_SECONDS)

    async def tokenise(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        """The token ids of a chat up to and with the header of the assistant's turn, by serving's own renderer.

        Raises: InvalidInputError if the chat template refuses the messages; EngineError.
        """
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest

        from gateway.engine.sampling import complaint

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
        from gateway.engine import sampling

        params = sampling.sampling_params(
            request,
            window=self.max_model_len,
            max_logprobs=self.settings.max_logprobs,
            defaults=self._state.openai_serving_chat.default_sampling_params,
        )
        if request.adapter is not None:
            await self.load(request.adapter.name, request.adapter.path)
        with self.lease(request.adapter.name if request.adapter else None) as lease:
            output = await self._generate(request.context_ids, params, lease)
        text = None if params.detokenize else self._text(llm, output)
        return sampling.sample_of(output, request.top_logprobs, text)

    async def score(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: str | None = None
    ) -> list[float]:
        """Log-probability (nats) of each response token after the context, by the base model or a loaded adapter.

        Computed anew every time: vLLM reads no cached prefix for it.
        Raises: InvalidInputError if they don't fit the window; NotFoundError; EngineError.
        """
        from gateway.engine import sampling

        ids = [*context_ids, *response_ids]
        if not context_ids or len(ids) >= self.max_model_len:
            raise InvalidInputError(
                f"{len(context_ids)} + {len(response_ids)} tokens can't be scored: the context needs at least one, "
                f"and both together fewer than the window's {self.max_model_len}"
            )
        with self.lease(adapter) as lease:
            output = await self._generate(ids, sampling.scoring_params(), lease)
        return sampling.prompt_scores(output, len(context_ids))

    def is_loaded(self, name: str) -> bool:
        return name in self._adapters

    def in_flight(self, name: str) -> int:
        """Requests that use this adapter now."""
        return self._adapters.in_flight(name)

    def lease(self, name: str | None) -> Lease:
        """Claim a loaded adapter (None or the base model's name: the base model) for one request.

        Raises: NotFoundError if it isn't loaded; AdapterError if its files are gone.
        """
        return Lease(None) if name is None or name == self.name else self._adapters.lease(name)

    async def load(self, name: str, path: Path) -> None:
        """Make the adapter in `path` answer to `name`; nothing happens if it does already.

        Callers that come while it loads wait for the same load. Its files must stay until `unload` has returned.
        Raises: AdapterError with the engine's reason; EngineError.
        """
        if self._adapters.is_loaded_from(name, path):
            return
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = asyncio.create_task(self._load(name, path))
        await asyncio.shield(task)
        self._adapters.is_loaded_from(name, path)

    async def unload(self, name: str) -> None:
        """Forget the adapter: no new request finds it, those in flight finish, then the engine drops its weights."""
        adapter = self._adapters.pop(name)
        if adapter is None:
            return
        if self._state is not None:
            self._state.openai_serving_models.lora_requests.pop(name, None)
        await adapter.wait_until_idle()
        # Before that, the engine would silently load it again for a request still running.
        if self._llm is not None and not self._llm.errored:
            await self._llm.remove_lora(adapter.request.lora_int_id)

    def metrics(self) -> bytes:
        """vLLM's metrics in Prometheus' text format."""
        from prometheus_client import generate_latest
        from vllm.v1.metrics.prometheus import get_prometheus_registry

        return generate_latest(get_prometheus_registry())

    async def _load(self, name: str, path: Path) -> None:
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            llm = self.running()
            if not (path / "adapter_config.json").is_file():
                raise AdapterError(f"adapter {name!r}: there is no adapter_config.json in {path}")
            request = LoRARequest(name, next(self._adapter_ids), str(path))
            try:
                accepted = await llm.add_lora(request)
            except EngineDeadError as error:
                raise EngineError(f"the engine died while it loaded adapter {name!r}") from error
            except Exception as error:  # vLLM sends the worker's error as a bare Exception with its text
                reason = str(error).removeprefix("Call to add_lora method failed: ")
                raise AdapterError(f"the engine does not take adapter {name!r} from {path}: {reason}") from error
            if not accepted:
                raise AdapterError(f"the engine does not take adapter {name!r} from {path}")
            self._adapters.add(name, LoadedAdapter(path, request))
            self._state.openai_serving_models.lora_requests[name] = request
        finally:
            del self._loading[name]

    async def _generate(self, ids: Sequence[int], params: "SamplingParams", lease: Lease) -> "RequestOutput":
        from vllm.exceptions import VLLMClientError, VLLMError
        from vllm.inputs import tokens_input

        from gateway.engine.sampling import refusal

        llm = self.running()
        final: RequestOutput | None = None
        outputs = llm.generate(
            tokens_input(list(ids)), params, f"bread-{next(self._request_ids)}", lora_request=lease.request
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

    async def _find_out_renders_tools(self) -> bool:
        chat: list[Message] = [{"role": "user", "content": "Hello"}]
        try:
            return await self.tokenise(chat) != await self.tokenise(chat, [PROBE_TOOL])
        except InvalidInputError:  # no chat template at all, or one that refuses this tool
            return False

    async def _prove_ready(self) -> None:
        """The first token takes seconds, since kernels are set up for it: better now than for the first client."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(max_tokens=1, output_kind=RequestOutputKind.FINAL_ONLY)
        await self._generate([0], params, Lease(None))


def _build(settings: EngineSettings) -> tuple["AsyncLLM", Any]:
    """The engine and vLLM's parsed arguments. Blocks for 15 seconds and more: call it in a thread."""
    try:
        read_config(settings.model)
    except (OSError, ValueError) as error:
        raise EngineError(f"{settings.model} is no model folder in Hugging Face's format: {error}") from error
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    command_line = arguments(settings, is_cpu=bool(current_platform.is_cpu()))
    try:
        args = make_arg_parser(FlexibleArgumentParser()).parse_args(command_line)
        engine_args = AsyncEngineArgs.from_cli_args(args)
        return AsyncLLM.from_engine_args(engine_args, usage_context=UsageContext.OPENAI_API_SERVER), args
    except SystemExit as error:  # argparse has printed what it minds
        raise EngineError(f"vLLM refuses its arguments: {' '.join(command_line)}") from error
    except Exception as error:
        raise EngineError(_why_not_started(error, settings)) from error


def _why_not_started(error: Exception, settings: EngineSettings) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and "Engine core initialization failed" in text:
        text = (
            "its process ended while it loaded the model, the reason is in the log above. Often it is memory: lower "
            "kv_cache_gib, max_model_len or max_loras"
        )
    return f"the engine did not start with {settings.model}: {text}"


async def _serving_state(llm: "AsyncLLM", args: Any) -> Any:
    """vLLM's OpenAI handlers, without its web framework."""
    from starlette.datastructures import State
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state

    state = State()
    await init_app_state(llm, state, args, await llm.get_supported_tasks())
    return state


def _discard(building: "asyncio.Future[tuple[AsyncLLM, Any]]") -> None:
    if not building.cancelled() and building.exception() is None:
        building.result()[0].shutdown()
