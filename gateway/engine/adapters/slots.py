"""Which adapters are in the engine, which are in use, and which requests wait for one.

Two places are scarce: *slots* (adapters that may run in one batch; on the device) and *copies* (adapters in host
memory, from which a slot is filled within a step). A request enters the engine only once its adapter has both, so vLLM
never has to choose. With one adapter too many, vLLM 0.32 would skip its requests for as long as requests for the
others arrive; and it would read an adapter that it dropped from disk again within a step, which blocks the batch.

An adapter at another strength (its name ends in `@0.5`) is a separate adapter here, from the same files: it has its own
id, slot and copy, and is removed with the adapter itself.

Imports no vLLM: a `Loader` does the loading. Everything runs on one event loop and needs no locks.

Over 300 lines: slots, copies and queue are one state, which every method keeps consistent.
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
    """Loads weights into the engine and removes them."""

    async def check(self, name: str, path: Path) -> None:
        """Raises: AdapterError if the files can't be loaded."""
        ...

    async def add(self, name: str, number: int, path: Path) -> None:
        """Load an adapter, after each `remove` that was called earlier. Raises: AdapterError with the engine's reason;
        EngineError."""
        ...

    async def remove(self, name: str, number: int) -> None:
        """Never raises."""
        ...

    def rename(self, name: str, new_name: str, number: int, path: Path) -> None:
        """Give an added adapter another name, and another path to its files. Never raises."""
        ...


class AdapterCounts(NamedTuple):
    """Counts for `/metrics`."""

    resident: int
    """Number of adapters in host memory, ready for a slot."""
    in_use: int
    """Number of adapters in a slot, with requests in flight."""
    waiting: int
    """Number of adapters whose requests wait for a slot."""
    loads: int
    """Number of loads so far."""
    load_seconds: float
    """Duration of all loads together."""
    evictions: int
    """Number of adapters so far that were dropped from host memory for another."""


class Adapter:
    """A registered adapter, loaded or not."""

    def __init__(self, name: str, number: int, path: Path) -> None:
        self.name = name
        self.number = number
        """vLLM's id, never reused: two adapters with one id would silently share weights."""
        self.path = path
        self.in_flight = 0
        self.yields_slot = False
        """True if its new requests queue, so that its slot becomes free for a waiting adapter."""
        self.waiting: list[asyncio.Future[Lease]] = []
        self.load: asyncio.Task[None] | None = None
        """Task that loads the adapter, or done if it is in the engine; None before, and after a failure."""
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def holds_slot(self) -> bool:
        return self.in_flight > 0

    @property
    def is_loaded(self) -> bool:
        return self.load is not None and self.load.done()


class Lease:
    """One request's claim on an adapter or on the base model. While it is held, the adapter stays in the engine."""

    def __init__(self, adapter: Adapter | None, on_release: Callable[[Adapter], None] = lambda adapter: None) -> None:
        self.adapter = adapter
        self._on_release = on_release

    def release(self) -> None:
        """Give the claim back. May be called again."""
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
    """Slots, copies, and the queue for them.

    The queue holds adapters in the order in which they began to wait; all requests for an adapter share its place. For
    each waiting adapter one that holds a slot yields it, those that have held theirs longest first: their new requests
    go to the end of the queue, and the slot passes on when the requests in flight have ended. So the n-th adapter in
    the queue gets its turn after ceil(n / slots) such changes, each no longer than the longest request in flight then;
    steady traffic to other adapters does not keep it out.
    """

    def __init__(self, loader: Loader, numbers: Iterator[int], *, slots: int, copies: int) -> None:
        """
        Args:
            numbers: ids for adapters, each only once.
            slots: most adapters in one batch.
            copies: most adapters in host memory; at least `slots` are used.
        """
        self._loader = loader
        self._numbers = numbers
        self._slots = slots
        self._copies = max(copies, slots)
        self._known: dict[str, Adapter] = {}
        # The next three are ordered sets. Their keys are adapters, not names: a forgotten name may be registered again
        # while its last requests run.
        self._resident: dict[Adapter, None] = {}
        """Adapters loaded or loading; least recently used first."""
        self._holders: dict[Adapter, None] = {}
        """Adapters that hold a slot; longest first."""
        self._queue: dict[Adapter, None] = {}
        """Adapters that requests wait for; longest first."""
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
        """Name and folder of a loaded adapter; None if none is loaded."""
        return next(((adapter.name, adapter.path) for adapter in self._resident if adapter.is_loaded), None)

    def in_flight(self, name: str) -> int:
        adapter = self._known.get(name)
        return 0 if adapter is None else adapter.in_flight

    def register(self, name: str, path: Path) -> None:
        """Allow claims of `name`. Loads nothing.

        Raises: AdapterError if the name means another path: what a name means never changes.
        """
        known = self._known.get(name)
        if known is None:
            self._known[name] = Adapter(name, next(self._numbers), path)
        elif known.path != path:
            raise AdapterError(f"adapter {name!r} is already loaded, from {known.path}: use a new name for {path}")

    def rename(self, name: str, new_name: str, path: Path) -> None:
        """Give an adapter, whose files were moved to `path`, a new name. If it is loaded, it stays loaded.

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
        """Wait until the adapter is in the engine and has a slot, and claim it.

        Raises: NotFoundError if the name isn't registered, or is forgotten while this waits; AdapterError if it can't
        be loaded; EngineError.
        """
        adapter = self._known.get(name)
        if adapter is None:
            raise NotFoundError(f"adapter {name!r} is not loaded")
        # If vLLM ever read it again within a step, a missing file would kill its engine.
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
        """Forget the adapter at every strength: new requests can't claim it, those in flight finish, and then it is
        removed from the engine."""
        forgotten = [self._known.pop(each) for each in at_all_strengths(name) if each in self._known]
        for adapter in forgotten:
            self._fail_waiting(adapter, NotFoundError(f"adapter {adapter.name!r} was removed"))
        self._settle()
        await asyncio.gather(*map(self._drop, forgotten))

    async def _drop(self, adapter: Adapter) -> None:
        await adapter.idle.wait()
        if adapter.is_loaded:
            self._resident.pop(adapter, None)
            adapter.load = None
            await self._loader.remove(adapter.name, adapter.number)

    def close(self, reason: str) -> None:
        """Fail all waiting requests with an EngineError: the engine has ended."""
        for adapter in list(self._queue):
            self._fail_waiting(adapter, EngineError(reason))

    # Slots

    async def _turn(self, adapter: Adapter) -> Lease:
        """A lease, at once or when its turn comes."""
        may_join = adapter.holds_slot and not adapter.yields_slot
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
            adapter.yields_slot = False
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
        """Give free slots to the first adapters in the queue, and make as many holders yield as adapters wait."""
        while self._queue and len(self._holders) < self._slots:
            self._admit(next(iter(self._queue)))
        newcomers = itertools.islice((adapter for adapter in self._queue if not adapter.holds_slot), self._slots)
        wanted = sum(1 for _ in newcomers)
        for place, holder in enumerate(list(self._holders)):
            holder.yields_slot = place < wanted
            if not holder.yields_slot and holder.waiting:
                self._admit(holder)

    def _admit(self, adapter: Adapter) -> None:
        """Grant the adapter to all requests that wait for it."""
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
        """Wait until the adapter, which holds a slot, is in the engine. Concurrent callers share one load."""
        if adapter.load is None:
            # The load has its own lease: its callers may leave, and it must not be evicted while it loads.
            adapter.load = asyncio.create_task(self._load(adapter, self._grant(adapter)), name=f"load {adapter.name}")
            adapter.load.add_done_callback(_note)
        if not adapter.load.done():
            await asyncio.shield(adapter.load)

    async def _load(self, adapter: Adapter, lease: Lease) -> None:
        start = time.monotonic()
        try:
            await self._loader.check(adapter.name, adapter.path)
            self._resident[adapter] = None
            evicted = self._evict()
            # Sent together: they take effect in this order, and a busy engine reads messages only between two steps.
            *_, failure = await asyncio.gather(
                *(self._loader.remove(old.name, old.number) for old in evicted),
                self._loader.add(adapter.name, adapter.number, adapter.path),
                return_exceptions=True,
            )
            if failure is not None:
                raise failure
            self._loads += 1
            self._load_seconds += time.monotonic() - start
        except BaseException:
            self._resident.pop(adapter, None)
            adapter.load = None  # the next request tries again
            raise
        finally:
            lease.release()

    def _evict(self) -> list[Adapter]:
        """Take surplus adapters out of `_resident`, least recently used first, never one that is in use.

        There are always enough: each adapter that is used or loading holds a slot, and there are at least as many
        copies as slots.
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
    """Read the load's error, or asyncio warns about it if all callers have left; callers get it in any case."""
    if not load.cancelled():
        load.exception()
