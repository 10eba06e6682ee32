"""Which adapters are in the engine, who uses them, and who waits for a place.

Two places are scarce: *slots* (adapters that may run in one batch; on the device) and *copies* (adapters in host
memory, from which a slot is filled within a step). A request is let into the engine only once its adapter has both,
so vLLM itself never has to choose: it would skip a request whose adapter is one too many for as long as the others
keep coming, and read an adapter that it dropped from disk again in the middle of everybody's batch.

An adapter at another strength (its name ends in `@0.5`) is one more adapter here, from the same files: it has an id, a
slot and a copy of its own, and goes when the adapter itself goes.

Knows no vLLM: a `Loader` does the loading. All of it runs on one event loop and needs no locks.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

from baker.adapters.files import ADAPTER_CONFIG
from baker.errors import AdapterError, BakeryError, EngineError, NotFoundError
from baker.model_names import at_all_strengths


class Loader(Protocol):
    """What brings weights into the engine and out of it."""

    async def check(self, name: str, path: Path) -> None:
        """Raises: AdapterError if the files are not fit to be loaded."""
        ...

    async def add(self, name: str, number: int, path: Path) -> None:
        """Takes effect after a `remove` that was begun before. Raises: AdapterError with the engine's reason;
        EngineError."""
        ...

    async def remove(self, name: str, number: int) -> None:
        """Never raises."""
        ...

    def rename(self, name: str, new_name: str, number: int, path: Path) -> None:
        """What was added is called otherwise, and its files are elsewhere. Never raises."""
        ...


class AdapterCounts(NamedTuple):
    """For `/metrics`."""

    resident: int
    """In host memory, ready for a slot."""
    in_use: int
    """In a slot, with requests in flight."""
    waiting: int
    """Adapters whose requests wait for a slot."""
    loads: int
    """So far."""
    load_seconds: float
    """All loads together."""
    evictions: int
    """So far: those that gave their copy's place to another."""


class Adapter:
    """An adapter that may be asked for, wherever its weights are."""

    def __init__(self, name: str, number: int, path: Path) -> None:
        self.name = name
        self.number = number
        """vLLM's id. Its own for ever: two adapters with one id would silently share weights."""
        self.path = path
        self.in_flight = 0
        self.gives_way = False
        """Its new requests queue, so that its slot becomes free for those who wait."""
        self.waiting: list[asyncio.Future[Lease]] = []
        self.load: asyncio.Task[None] | None = None
        """Under way, or done if it is in the engine; a failed one is not kept."""
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def holds_slot(self) -> bool:
        return self.in_flight > 0

    @property
    def is_loaded(self) -> bool:
        return self.load is not None and self.load.done()


class Lease:
    """One request's claim on an adapter (or on the base model): while it is held, the adapter stays where it is."""

    def __init__(self, adapter: Adapter | None, on_release: Callable[[Adapter], None] = lambda adapter: None) -> None:
        self.adapter = adapter
        self._on_release = on_release

    def release(self) -> None:
        """Give the claim back; again is harmless."""
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            self._on_release(adapter)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


BASE = Lease(None)
"""The base model needs no slot."""


class AdapterTable:
    """Slots and copies, and the queue before them.

    The queue is one of adapters, in the order in which they began to wait; all requests of an adapter share its place.
    While others wait, as many holders of slots as they are give way, those with the oldest turns first: their new
    requests go to the end of the queue, and their slot changes hands when the requests in flight have ended. So an
    adapter that is n-th in the queue has its turn after ceil(n / slots) changes of hands, each no longer than
    the longest request in flight then; steady traffic to the others does not keep it out.
    """

    def __init__(self, loader: Loader, numbers: Iterator[int], *, slots: int, copies: int) -> None:
        """Args: numbers: where adapters get their ids from; none may come twice."""
        self._loader = loader
        self._numbers = numbers
        self._slots = slots
        self._copies = max(copies, slots)
        self._known: dict[str, Adapter] = {}
        # The others are sets that keep an order. By adapter and not by name: a name that is forgotten may be given
        # again while its last requests run.
        self._resident: dict[Adapter, None] = {}
        """Loaded or loading; least recently used first."""
        self._holders: dict[Adapter, None] = {}
        """Those that hold a slot, by turn."""
        self._queue: dict[Adapter, None] = {}
        """Those that requests wait for, first come first."""
        self._loads = self._evictions = 0
        self._load_seconds = 0.0

    @property
    def counts(self) -> AdapterCounts:
        return AdapterCounts(
            resident=sum(adapter.is_loaded for adapter in self._resident),
            in_use=len(self._holders),
            waiting=len(self._queue),
            loads=self._loads,
            load_seconds=self._load_seconds,
            evictions=self._evictions,
        )

    def is_registered(self, name: str) -> bool:
        return name in self._known

    def is_resident(self, name: str) -> bool:
        adapter = self._known.get(name)
        return adapter is not None and adapter.is_loaded

    def first(self) -> tuple[str, Path] | None:
        """Name and folder of an adapter that is loaded; None if none is."""
        return next(((adapter.name, adapter.path) for adapter in self._resident if adapter.is_loaded), None)

    def in_flight(self, name: str) -> int:
        adapter = self._known.get(name)
        return 0 if adapter is None else adapter.in_flight

    def register(self, name: str, path: Path) -> None:
        """From now on `name` may be claimed. Loads nothing.

        Raises: AdapterError if the name stands for another path, since an adapter never changes under its name.
        """
        known = self._known.get(name)
        if known is None:
            self._known[name] = Adapter(name, next(self._numbers), path)
        elif known.path != path:
            raise AdapterError(f"adapter {name!r} is already loaded, from {known.path}: use a new name for {path}")

    def rename(self, name: str, new_name: str, path: Path) -> None:
        """An adapter whose files were moved to `path` is claimed by a new name from now on; loaded, it stays so.

        Does nothing if `name` isn't registered. Raises: AdapterError if `new_name` is.
        """
        adapter = self._known.get(name)
        if adapter is None:
            return
        if new_name in self._known:
            raise AdapterError(f"adapter {new_name!r} is already loaded, from {self._known[new_name].path}")
        del self._known[name]
        self._known[new_name] = adapter
        adapter.name, adapter.path = new_name, path
        self._loader.rename(name, new_name, adapter.number, path)

    async def claim(self, name: str) -> Lease:
        """The right to use the adapter, once it is in the engine and has a slot; waits for its turn.

        Raises: NotFoundError if the name isn't registered, or is forgotten while this waits; AdapterError if it can't
        be loaded; EngineError.
        """
        adapter = self._known.get(name)
        if adapter is None:
            raise NotFoundError(f"adapter {name!r} is not loaded")
        # Should vLLM ever read it again within a step, its engine would die of a file that is gone.
        if not (adapter.path / ADAPTER_CONFIG).is_file():
            raise AdapterError(f"the files of adapter {name!r} are gone from {adapter.path}")
        lease = await self._turn(adapter)
        try:
            await self._loaded(adapter)
        except BaseException:
            lease.release()
            raise
        return lease

    async def forget(self, name: str) -> None:
        """No new request finds the adapter, at any strength; those in flight end, and then its weights leave the
        engine."""
        known = [self._known.pop(each) for each in at_all_strengths(name) if each in self._known]
        for adapter in known:
            self._fail_waiting(adapter, NotFoundError(f"adapter {adapter.name!r} was removed"))
        self._settle()
        await asyncio.gather(*map(self._drop, known))

    async def _drop(self, adapter: Adapter) -> None:
        await adapter.idle.wait()
        if adapter.is_loaded:
            self._resident.pop(adapter, None)
            adapter.load = None
            await self._loader.remove(adapter.name, adapter.number)

    def close(self, reason: str) -> None:
        """The engine is gone: whoever waits is told so."""
        for adapter in list(self._queue):
            self._fail_waiting(adapter, EngineError(reason))

    # Slots

    async def _turn(self, adapter: Adapter) -> Lease:
        """A lease, given at once or when its turn comes."""
        may_join = adapter.holds_slot and not adapter.gives_way
        if may_join or (not self._queue and not adapter.holds_slot and len(self._holders) < self._slots):
            return self._grant(adapter)
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        adapter.waiting.append(future)
        self._queue.setdefault(adapter)
        self._settle()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().release()
            with suppress(ValueError):
                adapter.waiting.remove(future)
            if not adapter.waiting:
                self._queue.pop(adapter, None)
            self._settle()
            raise

    def _grant(self, adapter: Adapter) -> Lease:
        if not adapter.holds_slot:
            adapter.gives_way = False
            adapter.idle.clear()
            self._holders[adapter] = None
        adapter.in_flight += 1
        return Lease(adapter, self._release)

    def _release(self, adapter: Adapter) -> None:
        adapter.in_flight -= 1
        if adapter.in_flight == 0:
            del self._holders[adapter]
            if adapter in self._resident:  # now the most recently used
                del self._resident[adapter]
                self._resident[adapter] = None
            adapter.idle.set()
            self._settle()

    def _settle(self) -> None:
        """Give free slots to the first in line, and see to it that as many become free as are waited for."""
        while self._queue and len(self._holders) < self._slots:
            self._admit(next(iter(self._queue)))
        newcomers = itertools.islice((adapter for adapter in self._queue if not adapter.holds_slot), self._slots)
        wanted = sum(1 for _ in newcomers)
        for place, holder in enumerate(list(self._holders)):
            holder.gives_way = place < wanted
            if not holder.gives_way and holder.waiting:
                self._admit(holder)

    def _admit(self, adapter: Adapter) -> None:
        """The turn of all who wait for it has come."""
        del self._queue[adapter]
        waiting, adapter.waiting = adapter.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(self._grant(adapter))

    def _fail_waiting(self, adapter: Adapter, error: BakeryError) -> None:
        self._queue.pop(adapter, None)
        waiting, adapter.waiting = adapter.waiting, []
        for future in waiting:
            if not future.done():
                future.set_exception(error)

    # Copies

    async def _loaded(self, adapter: Adapter) -> None:
        """Until the adapter, which holds a slot, is in the engine. Callers that come while it loads share the load."""
        if adapter.load is None:
            # The load has a claim of its own: its callers may leave, and it must not be evicted under way.
            adapter.load = asyncio.create_task(self._load(adapter, self._grant(adapter)), name=f"load {adapter.name}")
            adapter.load.add_done_callback(_note)
        if not adapter.load.done():
            await asyncio.shield(adapter.load)

    async def _load(self, adapter: Adapter, lease: Lease) -> None:
        began = time.monotonic()
        try:
            await self._loader.check(adapter.name, adapter.path)
            self._resident[adapter] = None
            evicted = self._evicted()
            # Both at once: they take effect in this order, and a busy engine looks up only between two steps.
            *_, failure = await asyncio.gather(
                *(self._loader.remove(old.name, old.number) for old in evicted),
                self._loader.add(adapter.name, adapter.number, adapter.path),
                return_exceptions=True,
            )
            if failure is not None:
                raise failure
            self._loads += 1
            self._load_seconds += time.monotonic() - began
        except BaseException:
            self._resident.pop(adapter, None)
            adapter.load = None  # the next request tries again
            raise
        finally:
            lease.release()

    def _evicted(self) -> list[Adapter]:
        """Those, least recently used first, that must go so that there is room; never one that is in use.

        There always are enough: who is in use or loads holds a slot, and there are no fewer copies than slots.
        """
        surplus = max(0, len(self._resident) - self._copies)
        idle = (adapter for adapter in self._resident if not adapter.holds_slot)
        evicted = list(itertools.islice(idle, surplus))
        for adapter in evicted:
            del self._resident[adapter]
            adapter.load = None
        self._evictions += len(evicted)
        return evicted


def _note(load: "asyncio.Task[None]") -> None:
    """Its callers have the error; if they have all left, nobody is to be told that nobody read it."""
    if not load.cancelled():
        load.exception()
