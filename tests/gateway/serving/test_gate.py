"""The publish gate: nothing is served that was not proved."""

from collections.abc import Callable

import pytest

from baker.errors import AdapterError
from baker.types import Checkpoint
from gateway.serving.gate import Gate
from tests.gateway.serving.engine import LoraEngine, make

__all__ = ["make"]  # a fixture

pytestmark = pytest.mark.anyio


async def test_an_adapter_that_is_served_as_it_was_trained_is_proved(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine(logprob=-1.02)
    await Gate(engine).prove(make(9))
    assert "admin/repo/bake/9" in engine.loaded


async def test_an_adapter_that_is_served_differently_is_refused_and_unloaded(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine(logprob=-2.0)  # what the base model says: the adapter has no effect
    with pytest.raises(AdapterError, match=r"differ from the trainer's by 1\.000 nats"):
        await Gate(engine).prove(make(9))
    assert engine.loaded == {}


async def test_a_small_effect_that_is_missing_in_the_engine_is_noticed(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine(logprob=-2.0)
    small = make(9, logprobs=[-1.75, -2.0])
    with pytest.raises(AdapterError, match=r"show 0\.00 of the effect"):
        await Gate(engine).prove(small)
    assert engine.loaded == {}


async def test_broken_files_never_reach_the_engine(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine()
    checkpoint = make(9)
    weights = checkpoint.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(AdapterError):
        await Gate(engine).prove(checkpoint)
    assert engine.loaded == {}


@pytest.mark.parametrize("logprob", [float("nan"), -float("inf")])
async def test_an_import_that_does_not_answer_is_refused_and_can_be_forgotten(
    make: Callable[..., Checkpoint], logprob: float
) -> None:
    engine, files = LoraEngine(logprob), make(9).path
    gate = Gate(engine)
    with pytest.raises(AdapterError, match="not finite"):
        await gate.probe(files)
    await gate.forget_probed(files)
    assert engine.loaded == {}


async def test_a_probe_says_whether_the_adapter_changes_anything(make: Callable[..., Checkpoint]) -> None:
    files = make(9).path
    assert await Gate(LoraEngine(logprob=-1.0)).probe(files)
    assert not await Gate(LoraEngine(logprob=-2.0)).probe(files), "as the base model alone"


async def test_preparing_checks_the_files_but_compares_nothing(make: Callable[..., Checkpoint]) -> None:
    """The checkpoint was proved when it was made; it may have been damaged since."""
    engine, checkpoint = LoraEngine(logprob=-2.0), make(9)
    await Gate(engine).prepare(checkpoint)
    assert engine.loaded == {checkpoint.name: checkpoint.path}
    (checkpoint.path / "adapter_config.json").unlink()
    with pytest.raises(AdapterError):
        await Gate(engine).prepare(checkpoint)
