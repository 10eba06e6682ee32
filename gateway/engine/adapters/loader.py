"""Loads adapters into vLLM's worker and removes them.

The worker accepts weights of a wrong shape silently, and blocks the whole batch while it reads them: so the files are
checked here first.
"""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from baker.adapters.files import check_adapter
from baker.errors import AdapterError, EngineError

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)

FAILED_PREFIX = "Call to add_lora method failed: "
"""vLLM 0.32 (`v1/engine/core.py`, `_invoke_utility_method`) sends the worker's error to the front end as a bare
Exception with this text in front; it gives neither type nor code. The rest is the reason that clients should read."""


class LoadingEngine(Protocol):
    """What the loader needs of the engine; see `core.engine.Engine`."""

    @property
    def path(self) -> Path: ...

    @property
    def max_lora_rank(self) -> int: ...

    @property
    def serving(self) -> Any: ...

    def running(self) -> "AsyncLLM": ...


def lora_request(name: str, number: int, path: Path) -> "LoRARequest":
    """vLLM's reference to an adapter."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, number, str(path))


class LoraLoader:
    """The `slots.Loader` of one engine."""

    def __init__(self, engine: LoadingEngine) -> None:
        self._engine = engine

    async def check(self, name: str, path: Path) -> None:
        """Raises: AdapterError if the files are missing, broken, or not made for this base model."""
        try:
            await asyncio.to_thread(check_adapter, path, max_rank=self._engine.max_lora_rank, base=self._engine.path)
        except AdapterError as error:
            raise AdapterError(f"adapter {name!r}: {error.message}") from error

    async def add(self, name: str, number: int, path: Path) -> None:
        """Raises: AdapterError with the engine's reason; EngineError."""
        from vllm.v1.engine.exceptions import EngineDeadError

        llm = self._engine.running()
        request = lora_request(name, number, path)
        try:
            accepted = await llm.add_lora(request)
        except EngineDeadError as error:
            raise EngineError(f"the engine died while it loaded adapter {name!r}") from error
        except Exception as error:
            await self.remove(name, number)  # part of it may be loaded
            reason = str(error).removeprefix(FAILED_PREFIX)
            raise AdapterError(f"the engine does not accept adapter {name!r} from {path}: {reason}") from error
        if not accepted:
            raise AdapterError(f"the engine does not accept adapter {name!r} from {path}")
        self._engine.serving.openai_serving_models.lora_requests[name] = request

    def rename(self, name: str, new_name: str, number: int, path: Path) -> None:
        """vLLM's worker knows adapters by number; only its serving code knows names."""
        with contextlib.suppress(EngineError):
            requests = self._engine.serving.openai_serving_models.lora_requests
            if requests.pop(name, None) is not None:
                requests[new_name] = lora_request(new_name, number, path)

    async def remove(self, name: str, number: int) -> None:
        """Never raises: an engine that is dead or stopped has lost the adapter anyway."""
        from vllm.v1.engine.exceptions import EngineDeadError

        with contextlib.suppress(EngineError, EngineDeadError):
            requests = self._engine.serving.openai_serving_models.lora_requests
            if name in requests and requests[name].lora_int_id == number:
                del requests[name]
            try:
                await self._engine.running().remove_lora(number)
            except EngineDeadError:
                raise
            except Exception:
                log.warning("adapter %r could not be removed from the engine", name, exc_info=True)
