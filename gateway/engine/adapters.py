"""The adapters that the engine can serve now, and how many requests use each.

Knows no vLLM and loads nothing itself: `llm.Engine` does, in the order that keeps the engine alive.
"""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any

from baker.errors import AdapterError, NotFoundError


class LoadedAdapter:
    """An adapter in the engine."""

    def __init__(self, path: Path, request: Any) -> None:
        self.path = path
        self.request = request
        """vLLM's LoRARequest: name, id and path."""
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    async def wait_until_idle(self) -> None:
        await self._idle.wait()


class Lease:
    """One request's claim on an adapter (or on the base model): while it is held, the adapter isn't removed."""

    def __init__(self, adapter: LoadedAdapter | None) -> None:
        self._adapter = adapter
        self.request: Any = None if adapter is None else adapter.request
        if adapter is not None:
            adapter.enter()

    def release(self) -> None:
        """Give the claim back; again is harmless."""
        if self._adapter is not None:
            self._adapter.leave()
            self._adapter = None

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class AdapterTable:
    """Name -> loaded adapter."""

    def __init__(self) -> None:
        self._loaded: dict[str, LoadedAdapter] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._loaded

    def is_loaded_from(self, name: str, path: Path) -> bool:
        """Raises: AdapterError if the name is loaded from elsewhere, since an adapter never changes under its name."""
        adapter = self._loaded.get(name)
        if adapter is not None and adapter.path != path:
            raise AdapterError(f"adapter {name!r} is already loaded, from {adapter.path}: use a new name for {path}")
        return adapter is not None

    def add(self, name: str, adapter: LoadedAdapter) -> None:
        self._loaded[name] = adapter

    def pop(self, name: str) -> LoadedAdapter | None:
        return self._loaded.pop(name, None)

    def in_flight(self, name: str) -> int:
        adapter = self._loaded.get(name)
        return 0 if adapter is None else adapter.in_flight

    def lease(self, name: str) -> Lease:
        """A claim on the adapter. Raises: NotFoundError, AdapterError."""
        adapter = self._loaded.get(name)
        if adapter is None:
            raise NotFoundError(f"adapter {name!r} is not loaded")
        # vLLM reads an evicted adapter from disk again in the middle of a batch, and its engine dies if it is gone.
        if not (adapter.path / "adapter_config.json").is_file():
            raise AdapterError(f"the files of adapter {name!r} are gone from {adapter.path}")
        return Lease(adapter)
