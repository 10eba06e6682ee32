"""Slots, copies and their queue, with a loader that only records its calls. The real one: test_loader.py."""

import asyncio
import itertools
import random
from pathlib import Path

import pytest

from baker.errors import AdapterError, EngineError, NotFoundError
from gateway.engine.adapters.slots import AdapterTable, Lease

pytestmark = pytest.mark.anyio


class Recorder:
    """Holds the adapters that vLLM would hold, and refuses calls after which vLLM would have to choose one to drop."""

    def __init__(self, copies: int) -> None:
        self.copies = copies
        self.held: dict[int, str] = {}
        self.events: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        """While cleared, loads wait."""
        self.broken: set[str] = set()

    async def check(self, name: str, path: Path) -> None:
        if name in self.broken:
            raise AdapterError(f"{name} is broken")

    async def add(self, name: str, number: int, path: Path) -> None:
        self.events.append(f"add {name}")
        assert number not in self.held
        self.held[number] = name
        assert len(self.held) <= self.copies, "vLLM would have to drop one"
        await self.gate.wait()

    async def remove(self, name: str, number: int) -> None:
        self.events.append(f"remove {name}")
        assert self.held.pop(number) == name

    def rename(self, name: str, new_name: str, number: int, path: Path) -> None:
        self.events.append(f"rename {name} {new_name}")
        if number in self.held:
            self.held[number] = new_name


class Setup:
    def __init__(self, folder: Path, *, slots: int, copies: int, adapters: str) -> None:
        self.loader = Recorder(copies)
        self.table = AdapterTable(self.loader, itertools.count(1), slots=slots, copies=copies)
        (folder / "adapter_config.json").write_text("{}")
        for name in adapters:
            self.table.register(name, folder)

    def claim(self, name: str) -> asyncio.Task[Lease]:
        return asyncio.create_task(self.table.claim(name))


async def settled() -> None:
    """Let all tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_thousand_adapters_take_turns_and_the_least_recently_used_goes(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=2, copies=3, adapters="abcd")
    for name in "abcabd":
        (await setup.table.claim(name)).release()
    assert setup.loader.events == ["add a", "add b", "add c", "remove c", "add d"]
    assert setup.table.counts[:3] == (3, 0, 0)
    assert (setup.table.counts.loads, setup.table.counts.evictions) == (4, 1)


async def test_concurrent_first_requests_share_one_load(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=2, copies=2, adapters="a")
    setup.loader.gate.clear()
    claims = [setup.claim("a") for _ in range(5)]
    await settled()
    assert not any(claim.done() for claim in claims)
    claims[0].cancel()  # this caller started the load
    setup.loader.gate.set()
    await settled()
    assert claims[0].cancelled() and all(claim.done() for claim in claims[1:])
    assert setup.loader.events == ["add a"]
    assert setup.table.in_flight("a") == 4


async def test_loads_of_different_adapters_do_not_wait_for_each_other(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=2, copies=2, adapters="ab")
    setup.loader.gate.clear()
    claims = [setup.claim("a"), setup.claim("b")]
    await settled()
    assert setup.loader.events == ["add a", "add b"]
    setup.loader.gate.set()
    await asyncio.gather(*claims)


async def test_an_adapter_in_use_is_never_evicted(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=2, copies=2, adapters="abcd")
    held = await setup.table.claim("a")
    for name in "bcdbcd":
        (await setup.table.claim(name)).release()
    assert "remove a" not in setup.loader.events
    held.release()
    held.release()
    assert setup.table.in_flight("a") == 0


async def test_a_broken_adapter_fails_only_its_own_requests(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=1, copies=1, adapters="ab")
    (await setup.table.claim("a")).release()
    setup.loader.broken.add("b")
    results = await asyncio.gather(*(setup.claim("b") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, AdapterError) for result in results)
    assert setup.table.is_resident("a"), "nothing was evicted for it"
    setup.loader.broken.clear()
    (await setup.table.claim("b")).release()
    (await setup.table.claim("a")).release()


async def test_a_waiting_adapter_gets_its_turn_while_others_stay_busy(tmp_path: Path) -> None:
    """The next holder of a slot waits only for the requests that are in flight on it now."""
    setup = Setup(tmp_path, slots=2, copies=2, adapters="abc")
    a, b = await setup.table.claim("a"), await setup.table.claim("b")
    third = setup.claim("c")
    await settled()
    later = setup.claim("a")  # it would have joined at once if c did not wait
    other = setup.claim("b")  # no adapter waits for its slot
    await settled()
    assert other.done() and not later.done() and not third.done()
    a.release()
    await settled()
    assert third.done() and not later.done(), "c has its turn; b must yield its slot to a now"
    b.release()
    other.result().release()
    await settled()
    assert later.done()
    assert setup.loader.events == ["add a", "add b", "remove a", "add c", "remove b", "add a"]


async def test_the_queue_is_first_come_first_served(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=1, copies=1, adapters="abcd")
    lease = await setup.table.claim("a")
    waiting = {name: setup.claim(name) for name in "bcd"}
    await settled()
    for name, claim in waiting.items():
        lease.release()
        await settled()
        assert claim.done() and setup.table.in_flight(name) == 1
        lease = claim.result()
    lease.release()


async def test_a_cancelled_request_frees_its_place_in_the_queue(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=1, copies=1, adapters="ab")
    a = await setup.table.claim("a")
    b = setup.claim("b")
    await settled()
    again = setup.claim("a")
    await settled()
    assert not again.done()
    b.cancel()
    await settled()
    assert again.done(), "no other adapter waits for the slot"
    a.release()
    again.result().release()
    assert setup.table.counts.waiting == 0


async def test_requests_of_a_forgotten_adapter_finish(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=1, copies=2, adapters="ab")
    lease = await setup.table.claim("a")
    b = setup.claim("b")
    await settled()
    waiting = setup.claim("a")
    await settled()
    forgetting = asyncio.create_task(setup.table.forget("a"))
    await settled()
    with pytest.raises(NotFoundError):
        await waiting
    with pytest.raises(NotFoundError):
        await setup.table.claim("a")
    other = tmp_path / "other"
    other.mkdir()
    (other / "adapter_config.json").write_text("{}")
    setup.table.register("a", other)
    assert not forgetting.done()
    lease.release()
    await forgetting
    (await b).release()
    (await setup.table.claim("a")).release()
    assert setup.loader.events == ["add a", "remove a", "add b", "add a"]
    with pytest.raises(AdapterError, match="use a new name"):
        setup.table.register("a", tmp_path)


async def test_a_forgotten_adapter_goes_at_every_strength(tmp_path: Path) -> None:
    """Also if full strength was never requested; other adapters' strengths stay."""
    setup = Setup(tmp_path, slots=4, copies=4, adapters="ab")
    for name in ("a@0.5", "a@2", "b@0.5"):
        setup.table.register(name, tmp_path)
    lease = await setup.table.claim("a@0.5")
    for name in ("a@2", "b@0.5"):
        (await setup.table.claim(name)).release()
    forgetting = asyncio.create_task(setup.table.forget("a"))
    await settled()
    for name in ("a", "a@0.5", "a@2"):
        with pytest.raises(NotFoundError):
            await setup.table.claim(name)
    assert not forgetting.done(), "a request runs at half strength"
    lease.release()
    await forgetting
    assert list(setup.loader.held.values()) == ["b@0.5"]
    await setup.table.forget("b@0.5")
    assert setup.table.is_registered("b") and not setup.table.is_registered("b@0.5")


async def test_a_renamed_adapter_stays_loaded(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=1, copies=1, adapters="ab")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "adapter_config.json").write_text("{}")
    with await setup.claim("a"):
        waiting = setup.claim("a")
        await settled()
        setup.table.rename("a", "new", tmp_path / "moved")
        assert (await waiting).adapter is not None
        (await setup.claim("new")).release()
    assert setup.loader.events == ["add a", "rename a new"]
    assert not setup.table.is_registered("a") and setup.table.is_resident("new")
    with pytest.raises(NotFoundError):
        await setup.claim("a")
    with pytest.raises(AdapterError, match="already loaded"):
        setup.table.rename("b", "new", tmp_path)
    setup.table.rename("unknown", "c", tmp_path)
    assert setup.table.is_registered("b") and not setup.table.is_registered("c")


async def test_waiting_requests_fail_when_the_engine_ends(tmp_path: Path) -> None:
    setup = Setup(tmp_path, slots=1, copies=1, adapters="ab")
    lease = await setup.table.claim("a")
    b = setup.claim("b")
    await settled()
    setup.table.close("the engine was stopped")
    with pytest.raises(EngineError, match="stopped"):
        await b
    lease.release()


@pytest.mark.parametrize("seed", range(20))
async def test_any_traffic_keeps_the_rules(tmp_path: Path, seed: int) -> None:
    """Claims, releases and cancellations in any order: the recorder refuses what vLLM could not serve, no more adapters
    are in flight than there are slots, and every request that is not cancelled is served."""
    chance = random.Random(seed)
    slots = chance.randint(1, 3)
    setup = Setup(tmp_path, slots=slots, copies=slots + chance.randint(0, 2), adapters="abcdefgh")
    served, stayed = 0, 0

    async def request(name: str, leaves: bool) -> None:
        nonlocal served
        if leaves:
            async with asyncio.timeout(0):
                (await setup.table.claim(name)).release()
        with await setup.table.claim(name):
            assert len(setup.table._holders) <= slots
            assert setup.table.is_resident(name)
            for _ in range(chance.randint(0, 5)):
                await asyncio.sleep(0)
        served += 1

    tasks = []
    for _ in range(300):
        leaves = chance.random() < 0.2
        stayed += not leaves
        tasks.append(asyncio.create_task(request(chance.choice("aaabbcdefgh"), leaves)))
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), TimeoutError}
    assert served >= stayed
    counts = setup.table.counts
    assert (counts.in_use, counts.waiting) == (0, 0)
    assert counts.resident == len(setup.loader.held)
