"""A bake at other strengths on a real engine: the same files, scaled as they are loaded."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file, save_file

from baker.errors import AdapterError, NotFoundError
from baker.model_names import BaseModelNames
from baker.types import Checkpoint
from gateway.engine import Engine, Reply, StreamReply
from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from gateway.serving.registry import Registry
from tests.gateway.engines import MODEL_NAME, handlers_of, make_adapter, reply_to

pytestmark = pytest.mark.anyio

CONTEXT, RESPONSE = [70, 71, 72], list(range(80, 96))
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}


def checkpoint_of(path: Path, step: int = 1) -> Checkpoint:
    """A checkpoint in a repo that no other test uses."""
    return Checkpoint("admin", path.parent.name, "bake", step, path, "0" * 64, 0, step)


def scaled_by_hand(source: Path, folder: Path, factor: float) -> Path:
    """A copy of the adapter with B multiplied by `factor`."""
    tensors = load_file(source / "adapter_model.safetensors")
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    save_file(
        {name: tensor * factor if "lora_B" in name else tensor for name, tensor in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


async def score(engine: Engine, name: str | None, path: Path | None = None) -> list[float]:
    if name is not None and path is not None:
        engine.register(name, path)
    return await engine.score(CONTEXT, RESPONSE, name)


def text_of(answer: dict[str, Any]) -> str:
    """The text of a whole answer of any kind."""
    match answer:
        case {"choices": [{"message": {"content": text}}]} | {"choices": [{"text": text}]}:
            return str(text)
        case {"output": [{"content": [{"text": text}]}]} | {"content": [{"text": text}]}:
            return str(text)
    raise AssertionError(answer)


def text_of_event(event: bytes) -> str:
    """The text in an event of a text_of_event chat."""
    if event.startswith(b"data: [DONE]"):
        return ""
    (choice,) = msgspec.json.decode(event.removeprefix(b"data: "))["choices"]
    return choice["delta"].get("content") or ""


async def ask(engine: Engine, adapters: Registry, name: str, fields: dict[str, Any], kind: Kind = kinds.CHAT) -> Any:
    """Serve the request as the pipeline does."""
    model = adapters.resolve(name, "admin")
    assert model.checkpoint is not None
    engine.register(model.name, model.checkpoint.path)
    reply = await reply_to(handlers_of(engine), kind, fields, model=model.name)
    if isinstance(reply, Reply):
        assert reply.status == 200, reply.body
        return msgspec.json.decode(reply.body)
    return reply


async def test_a_strength_scales_the_adapters_update(engine: Engine, tmp_path: Path) -> None:
    """Strength 0 is the base model, 1 the adapter, and 0.5 the adapter with B halved by hand; the same after an
    eviction."""
    path = make_adapter(tmp_path / "adapter", 1, scale=0.05)
    name = f"admin/{tmp_path.name}/bake/1"
    expected = {"@0": await score(engine, None), "": await score(engine, name, path)}
    for strength in (0.5, 2.0, 0.37):
        twin = scaled_by_hand(path, tmp_path / f"{strength}", strength)
        expected[f"@{strength:g}"] = await score(engine, f"admin/{tmp_path.name}/twin/{round(100 * strength)}", twin)
    for left, right in (("@0", "@0.37"), ("@0.37", "@0.5"), ("@0.5", ""), ("", "@2")):
        assert expected[left] != pytest.approx(expected[right], abs=0.2), "the strengths differ"
    for _ in range(2):  # five adapters, four places in memory
        for strength, logprobs in expected.items():
            tolerance = 0.1 if strength == "@0.37" else 0.02  # the engine rounds B to bfloat16 twice
            assert await score(engine, f"{name}{strength}", path) == pytest.approx(logprobs, abs=tolerance), strength


async def test_prefixes_are_not_shared_between_strengths(engine: Engine, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(make_adapter(tmp_path / "adapter", 1))
    adapters = registry(engine, checkpoint)
    fields = {**CHAT, "messages": [{"role": "user", "content": "word " * 60}]}  # beyond a block of the cache
    names = [f"{checkpoint.repo}/bake{strength}" for strength in ("", "@0.5", "", "@0.5", "@2")]
    answers = [await ask(engine, adapters, name, fields) for name in names]
    texts = [text_of(answer) for answer in answers]
    assert texts[:2] == texts[2:4] and len(set(texts)) == 3
    assert [answer["model"] for answer in answers[:2]] == [checkpoint.name, f"{checkpoint.name}@0.5"]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (kinds.CHAT, CHAT),
        (kinds.COMPLETION, {"prompt": "Hello", "max_tokens": 8, "temperature": 0}),
        (kinds.RESPONSES, {"input": "Hello", "max_output_tokens": 8, "temperature": 0}),
        (kinds.MESSAGES, CHAT),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)
async def test_every_kind_of_request_is_answered_at_a_strength(
    engine: Engine, tmp_path: Path, kind: Kind, fields: dict[str, Any]
) -> None:
    """The answer is that of an adapter with B halved by hand."""
    checkpoint = checkpoint_of(make_adapter(tmp_path / "adapter", 1))
    twin = checkpoint_of(scaled_by_hand(checkpoint.path, tmp_path / "twin", 0.5), step=2)
    adapters = registry(engine, checkpoint, twin)
    names = [f"{checkpoint.name}@0.5", twin.name, checkpoint.name]
    answers = [await ask(engine, adapters, name, fields, kind) for name in names]
    assert [answer["model"] for answer in answers] == names
    half, by_hand, full = [text_of(answer) for answer in answers]
    assert half == by_hand != full


async def test_concurrent_first_requests_at_a_strength_load_it_once(engine: Engine, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(make_adapter(tmp_path / "adapter", 1))
    adapters = registry(engine, checkpoint)
    before = engine.adapter_counts.loads
    await asyncio.gather(*(ask(engine, adapters, f"{checkpoint.repo}/bake{s}", CHAT) for s in ("@0.5", "@0.50") * 4))
    assert engine.adapter_counts.loads == before + 1
    assert engine.is_loaded(f"{checkpoint.name}@0.5") and not engine.is_loaded(checkpoint.name)


async def test_a_stream_at_a_strength_ends_undisturbed_when_its_bake_moves_on(engine: Engine, tmp_path: Path) -> None:
    """The name moves, and the version that the stream runs on is retired, but its files stay until the stream ends."""
    old, new = (checkpoint_of(make_adapter(tmp_path / f"{step}", step), step) for step in (1, 2))
    adapters = registry(engine, old)
    name = f"{old.repo}/bake@0.5"
    fields = {**CHAT, "max_tokens": 200, "ignore_eos": True, "stream": True}
    alone = "".join([text_of_event(event) async for event in await ask(engine, adapters, name, fields)])
    stream = await ask(engine, adapters, name, fields)
    assert isinstance(stream, StreamReply)
    text = "".join([text_of_event(await anext(stream)) for _ in range(3)])
    adapters.publish(new)
    retiring = asyncio.create_task(adapters.retire(old))
    moved = await ask(engine, adapters, name, CHAT)
    assert moved["model"] == f"{new.name}@0.5"
    assert not retiring.done()
    text += "".join([text_of_event(event) async for event in stream])
    assert text == alone
    await retiring
    for strength in ("", "@0.5"):
        with pytest.raises(NotFoundError):
            adapters.resolve(f"{old.name}{strength}", "admin")
        assert not engine.is_loaded(f"{old.name}{strength}")


async def test_the_worker_refuses_a_strength_out_of_range(engine: Engine, tmp_path: Path) -> None:
    path = make_adapter(tmp_path / "adapter", 1)
    with pytest.raises(AdapterError, match=r"the strength in .* is not allowed"):
        await engine.load(f"admin/{tmp_path.name}/bake/1@9", path)
    assert engine.is_ready


def registry(engine: Engine, *checkpoints: Checkpoint) -> Registry:
    adapters = Registry(engine, BaseModelNames(served=MODEL_NAME, stands_in=False))
    for checkpoint in checkpoints:
        adapters.publish(checkpoint)
    return adapters
