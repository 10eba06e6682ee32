"""Adapters swapped under load, on a real engine with two slots. Each adapter here repeats one letter."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.errors import AdapterError
from baker.model_names import BaseModelNames
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint
from gateway.engine import Engine, StreamReply
from gateway.engine.requests import kinds
from gateway.serving.promotion import Promotion
from gateway.serving.registry import Registry
from tests.gateway.engines import MODEL_NAME, handlers_of, make_forcing_adapter, reply_to

pytestmark = pytest.mark.anyio

SWAPS, STREAMS, TOKENS = 100, 16, 12
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Make = Callable[[str, int], Checkpoint]


@pytest.fixture
def make(engine: Engine, tiny_model: Path, tmp_path: Path) -> Iterator[Make]:
    """`make(bake, step)`: a version that repeats the step-th letter, with a name that no other test uses."""
    tokenizer = engine.running().get_tokenizer()

    def _make(bake: str, step: int) -> Checkpoint:
        (token,) = tokenizer.encode(LETTERS[step % len(LETTERS)], add_special_tokens=False)
        folder = make_forcing_adapter(tmp_path / bake / str(step), tiny_model, token)
        return Checkpoint("admin", tmp_path.name, bake, step, folder, "0" * 64, 0, step)

    yield _make


def registry(engine: Engine) -> Registry:
    return Registry(engine, BaseModelNames(served=MODEL_NAME, stands_in=False))


async def answer(engine: Engine, adapters: Registry, name: str, max_tokens: int = TOKENS) -> tuple[int, str]:
    """Serve a request as the pipeline does. Returns: the step that the name meant on arrival, and the streamed text."""
    model = adapters.resolve(name, "admin")
    assert model.checkpoint is not None
    engine.register(model.name, model.checkpoint.path)
    fields: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "stream": True,
        "ignore_eos": True,
    }
    reply = await reply_to(handlers_of(engine), kinds.CHAT, fields, model=model.name)
    assert isinstance(reply, StreamReply), reply.body
    text = ""
    async for event in reply:
        if not event.startswith(b"data: [DONE]"):
            (choice,) = msgspec.json.decode(event.removeprefix(b"data: "))["choices"]
            text += choice["delta"].get("content") or ""
    await reply.aclose()
    return model.checkpoint.step, text


async def test_a_hundred_swaps_under_load_and_every_answer_is_of_one_version(engine: Engine, make: Make) -> None:
    """Names move by `publish`, as for a bake or an import. No request fails, and each ends with the version that it
    began with."""
    adapters = registry(engine)
    bake = f"{make('swap', 0).repo}/swap"
    adapters.publish(await proved(engine, make("swap", 100)))
    seen: list[tuple[int, str]] = []
    is_over = asyncio.Event()

    async def stream() -> None:
        while not is_over.is_set():
            seen.append(await answer(engine, adapters, bake))

    streams = [asyncio.create_task(stream()) for _ in range(STREAMS)]
    for step in range(101, 101 + SWAPS):
        adapters.publish(await proved(engine, make("swap", step)))
        answered = len(seen)
        while len(seen) == answered:
            assert not any(task.done() for task in streams)
            await asyncio.sleep(0)
    is_over.set()
    await asyncio.gather(*streams)
    assert adapters.swaps == SWAPS + 1
    assert len({step for step, _ in seen}) > SWAPS / 2
    for step, text in seen:
        assert text == LETTERS[step % len(LETTERS)] * TOKENS, f"version {step} said {text!r}"
    assert engine.adapter_counts.resident <= engine.settings.max_cpu_loras
    assert engine.adapter_counts.in_use == 0
    listed = await engine.running().list_loras()
    assert len(listed) <= engine.settings.max_cpu_loras, "old versions were unloaded"


async def test_a_name_moved_by_hand_means_the_new_version_from_the_next_request_on(
    engine: Engine, make: Make, tmp_path: Path
) -> None:
    """Streams that are running keep their version."""
    catalog = OneThread(lambda: Catalog(tmp_path, BaseModelNames(MODEL_NAME, stands_in=False)), "store")
    adapters = registry(engine)
    promotion = Promotion(catalog, adapters)
    first, second = make("moved", 0), make("moved", 1)
    user, repo, bake = first.user, first.repo, first.bake

    def fill(known: Catalog) -> None:
        repos.put(known, user, repo, None)
        bakes.put(known, user, repo, bake, "default", {}, may_change=False)
        for checkpoint in (first, second):
            known.store.checkpoints.add(checkpoint)

    await catalog(fill)
    adapters.restore([second, first], [second, first])
    name = f"{repo}/{bake}"
    assert (await answer(engine, adapters, name))[1] == "b" * TOKENS
    running = asyncio.create_task(answer(engine, adapters, name, max_tokens=200))
    while engine.adapter_counts.in_use == 0:  # noqa: ASYNC110 - until it streams
        await asyncio.sleep(0)
    await promotion.promote(user, repo, bake, 0)
    assert (await answer(engine, adapters, name))[1] == "a" * TOKENS
    assert (await running)[1] == "b" * 200
    await promotion.roll_back(user, repo, bake)
    assert (await answer(engine, adapters, name))[1] == "b" * TOKENS
    catalog.close(Catalog.close)


async def proved(engine: Engine, checkpoint: Checkpoint) -> Checkpoint:
    await engine.load(checkpoint.name, checkpoint.path)
    return checkpoint


async def test_a_third_adapter_gets_in_under_steady_traffic_to_two(engine: Engine, make: Make) -> None:
    """vLLM alone would let it wait for as long as the traffic lasts; here the traffic lasts until it is answered."""
    assert engine.settings.max_loras == 2
    adapters = registry(engine)
    names = []
    for step, bake in enumerate(("one", "two", "three")):
        checkpoint = make(bake, step)
        adapters.publish(checkpoint)
        names.append(f"{checkpoint.repo}/{bake}")
    is_over = asyncio.Event()
    seen: list[str] = []

    async def traffic(name: str) -> None:
        while not is_over.is_set():
            _, text = await answer(engine, adapters, name, max_tokens=40)
            seen.append(text)

    busy = [asyncio.create_task(traffic(name)) for name in names[:2] for _ in range(4)]
    while engine.adapter_counts.in_use < 2 or len(seen) < 8:  # noqa: ASYNC110 - until both answer
        await asyncio.sleep(0.01)
    third = asyncio.create_task(answer(engine, adapters, names[2], max_tokens=40))
    while not third.done():
        assert not any(task.done() for task in busy)
        await asyncio.sleep(0.01)
    assert (await third)[1] == "c" * 40
    is_over.set()
    await asyncio.gather(*busy)
    assert set(seen) == {"a" * 40, "b" * 40}


async def test_a_broken_adapter_among_good_ones_fails_alone(engine: Engine, make: Make) -> None:
    adapters = registry(engine)
    good, broken, gone = (make(bake, step) for step, bake in enumerate(("good", "broken", "gone")))
    for checkpoint in (good, broken, gone):
        adapters.publish(checkpoint)
    weights = broken.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (gone.path / "adapter_model.safetensors").unlink()

    async def ask(checkpoint: Checkpoint) -> str:
        engine.register(checkpoint.name, checkpoint.path)
        reply = await reply_to(
            handlers_of(engine), kinds.COMPLETION, {"prompt": "x", "max_tokens": 3}, model=checkpoint.name
        )
        assert not isinstance(reply, StreamReply)
        body = msgspec.json.decode(reply.body)
        return str(body["error"]["message"]) if reply.status == 422 else str(body["choices"][0]["text"])

    asked = await asyncio.gather(*(ask(checkpoint) for checkpoint in (good, broken, gone) * 4))
    assert asked[::3] == ["aaa"] * 4
    assert all("cut off" in text for text in asked[1::3])
    assert all("is missing" in text for text in asked[2::3])
    with pytest.raises(AdapterError, match="cut off"):
        await engine.load(broken.name, broken.path)
    assert engine.is_ready
