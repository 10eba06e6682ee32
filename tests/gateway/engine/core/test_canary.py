"""Which answers of a new engine pass the canary's check."""

import asyncio
from pathlib import Path

import pytest

from baker.errors import AdapterError
from gateway.engine import Engine
from gateway.engine.core.canary import Answer, Canary
from gateway.errors import CanaryError
from tests.gateway.engines import (
    greedy,
    make_checkpoint,
)

pytestmark = pytest.mark.anyio

BASE = Answer(text_logprobs=[-1.0, -2.0, -3.0], next_ids=[7, 8, 9], next_logprobs=[-0.5, -0.7, -0.9])
BAKED = Answer(text_logprobs=[-4.0, -1.0, -0.1], next_ids=[1, 2, 3], next_logprobs=[-0.1, -0.2, -0.3])


class FixedEngine:
    """An engine with these answers."""

    def __init__(self, base: Answer = BASE, baked: Answer = BAKED, refusal: AdapterError | None = None) -> None:
        self.answers = {None: base, "repo/bake/1": baked}
        self.refusal = refusal
        self.loaded: list[str] = []

    async def ask(self, adapter: str | None) -> Answer:
        return self.answers[adapter]

    async def load(self, name: str, path: Path) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.loaded.append(name)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path


async def recorded(adapter: Path | None = None) -> Canary:
    canary, engine = Canary(), FixedEngine()
    await canary.check(engine.ask, engine.load)
    if adapter is not None:
        assert canary.wants_adapter
        await canary.record_adapter("repo/bake/1", adapter, engine.ask)
    return canary


async def test_an_engine_that_answers_as_before_passes(adapter: Path) -> None:
    canary, engine = await recorded(adapter), FixedEngine()
    assert not canary.wants_adapter
    await canary.check(engine.ask, engine.load)
    assert engine.loaded == ["repo/bake/1"]


async def test_rounding_and_nearly_equally_likely_tokens_pass() -> None:
    canary = await recorded()
    rounded = Answer(text_logprobs=[-1.05, -1.95, -3.1], next_ids=[7, 5, 5], next_logprobs=[-0.45, -0.71, -9.0])
    engine = FixedEngine(rounded)
    await canary.check(engine.ask, engine.load)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (Answer([-1.0, -2.0, -3.5], BASE.next_ids, BASE.next_logprobs), "0.167 nats a token"),
        (Answer([-1.0, -2.0, float("nan")], BASE.next_ids, BASE.next_logprobs), "nan nats a token"),
        (Answer(BASE.text_logprobs, [7, 8, 4], [-0.5, -0.7, -2.0]), "token 4"),
        (Answer(BASE.text_logprobs, BASE.next_ids, [-0.5, float("nan"), -0.9]), "position 1"),
    ],
)
async def test_other_answers_of_the_base_model_are_an_error(answer: Answer, complaint: str) -> None:
    canary, engine = await recorded(), FixedEngine(answer)
    with pytest.raises(CanaryError, match=f"the base model .*{complaint}"):
        await canary.check(engine.ask, engine.load)
    await canary.check(FixedEngine().ask, FixedEngine().load)


async def test_other_answers_of_the_adapter_are_an_error(adapter: Path) -> None:
    canary, engine = await recorded(adapter), FixedEngine(baked=BASE)
    with pytest.raises(CanaryError, match="repo/bake/1"):
        await canary.check(engine.ask, engine.load)


def _change(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"other weights")


def _remove(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()


@pytest.mark.parametrize("damage", [_change, _remove])
async def test_an_adapter_with_changed_files_is_not_used_for_the_check(adapter: Path, damage: object) -> None:
    canary, engine = await recorded(adapter), FixedEngine(baked=BASE)
    assert callable(damage)
    damage(adapter)
    await canary.check(engine.ask, engine.load)
    assert canary.wants_adapter, "another one can be recorded"


async def test_an_adapter_that_is_refused_is_not_used_for_the_check(adapter: Path) -> None:
    canary, engine = await recorded(adapter), FixedEngine(refusal=AdapterError("its rank is too high"))
    await canary.check(engine.ask, engine.load)
    assert canary.wants_adapter


async def test_base_and_adapter_have_different_answers_that_a_busy_batch_does_not_change(
    engine: Engine, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    await engine.load(checkpoint.name, checkpoint.path)
    known, swapped = Canary(), Canary()
    await known.check(engine.generation.canary_answer, engine.load)
    await known.record_adapter(checkpoint.name, checkpoint.path, engine.generation.canary_answer)
    await engine.record_canary()
    assert not engine.wants_canary
    await asyncio.gather(
        known.check(engine.generation.canary_answer, engine.load),
        *(greedy(engine, max_tokens=40, text=str(i)) for i in range(8)),
    )

    async def other(adapter: str | None) -> Answer:
        return await engine.generation.canary_answer(checkpoint.name if adapter is None else None)

    await swapped.check(other, engine.load)
    with pytest.raises(CanaryError, match="the base model reads"):
        await swapped.check(engine.generation.canary_answer, engine.load)
