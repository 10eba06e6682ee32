"""Brings adapters into vLLM's worker and out of it.

The worker takes weights of a wrong shape without a word, and blocks everybody's batch while it reads them: so the files
are checked here first.
"""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from baker.adapters.files import check_adapter
from baker.errors import AdapterError, EngineError

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

    from gateway.engine.core.engine import Engine

log = logging.getLogger(__name__)


def lora_request(name: str, number: int, path: Path) -> "LoRARequest":
    """How vLLM refers to an adapter."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, number, str(path))


class LoraLoader:
    """The `Loader` of one engine."""

    def __init__(self, engine: "Engine") -> None:
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
        except Exception as error:  # vLLM sends the worker's error as a bare Exception with its text
            await self.remove(name, number)  # it may have come half way
            reason = str(error).removeprefix("Call to add_lora method failed: ")
            raise AdapterError(f"the engine does not take adapter {name!r} from {path}: {reason}") from error
        if not accepted:
            raise AdapterError(f"the engine does not take adapter {name!r} from {path}")
        self._engine.serving.openai_serving_models.lora_requests[name] = request

    def rename(self, name: str, new_name: str, number: int, path: Path) -> None:
        """vLLM's worker knows adapters by their numbers; only its serving code has names."""
        with contextlib.suppress(EngineError):
            requests = self._engine.serving.openai_serving_models.lora_requests
            if requests.pop(name, None) is not None:
                requests[new_name] = lora_request(new_name, number, path)

    async def remove(self, name: str, number: int) -> None:
        """Never raises: an engine that is gone has forgotten the adapter by itself."""
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
