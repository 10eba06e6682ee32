"""The registry: names, the publish gate, withdrawal. The engine's side of it is in test_engine.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from baker.errors import AdapterError, NotFoundError
from baker.model_names import BaseModelNames
from baker.types import Checkpoint
from gateway.serving.registry import Registry

pytestmark = pytest.mark.anyio


class LoraEngine:
    """Scores every token of an adapter alike."""

    max_lora_rank = 32
    path = Path("no base model")

    def __init__(self, logprob: float = -1.0) -> None:
        self.logprob = logprob
        self.loaded: dict[str, Path] = {}

    async def load(self, name: str, path: Path) -> None:
        self.loaded[name] = path

    async def unload(self, name: str) -> None:
        self.loaded.pop(name, None)

    def rename(self, name: str, new_name: str, path: Path) -> None:
        del self.loaded[name]
        self.loaded[new_name] = path

    async def score(self, context_ids: list[int], response_ids: list[int], adapter: str | None) -> list[float]:
        if adapter is None:
            return [-2.0 for _ in response_ids]
        assert adapter in self.loaded
        return [self.logprob for _ in response_ids]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Checkpoint]:
    def _make(step: int, job_id: int = 1, bake: str = "bake", **parity: Any) -> Checkpoint:
        path = tmp_path / str(job_id) / str(step)
        path.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
        (path / "adapter_config.json").write_bytes(msgspec.json.encode(config))
        module = "base_model.model.model.layers.0.self_attn.q_proj"
        weights = {f"{module}.lora_A.weight": np.ones((2, 8)), f"{module}.lora_B.weight": np.ones((8, 2))}
        save_file(
            {name: array.astype(np.float32) for name, array in weights.items()}, path / "adapter_model.safetensors"
        )
        sequence = {"context_ids": [1], "response_ids": [2, 3], "logprobs": [-1.0, -1.0], "base_logprobs": [-2.0, -2.0]}
        (path / "parity.json").write_bytes(
            msgspec.json.encode({"sequences": [{**sequence, **parity}], "dtype": "bfloat16"})
        )
        return Checkpoint("admin", "repo", bake, step, path, "0" * 64, 0, job_id)

    return _make


def registry(engine: LoraEngine) -> Registry:
    return Registry(engine, BaseModelNames(served="Org/Base", stands_in=True))


@pytest.mark.parametrize("name", ["repo/bake", "admin/repo/bake", "repo/bake/9", "admin/repo/bake/9"])
async def test_every_spelling_finds_the_newest_checkpoint(make: Callable[..., Checkpoint], name: str) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    assert adapters.resolve(name, "admin").name == "admin/repo/bake/9"


@pytest.mark.parametrize("name", ["repo/bake", "admin/repo/bake", "repo/bake/9", "admin/repo/bake/9"])
@pytest.mark.parametrize(("written", "shown"), [("@0.5", "@0.5"), ("@0.50", "@0.5"), ("@0", "@0"), ("@1.0", "")])
async def test_every_spelling_takes_a_strength(
    make: Callable[..., Checkpoint], name: str, written: str, shown: str
) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(newest := make(9))
    assert adapters.resolve(f"{name}{written}", "admin") == (f"admin/repo/bake/9{shown}", newest)


@pytest.mark.parametrize("name", ["repo/bake@2.5", "repo/bake@0.125", "repo/bake@", "repo/bake@half", "gone/bake@-1"])
async def test_a_strength_that_is_none_is_an_error_with_the_rule(make: Callable[..., Checkpoint], name: str) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    with pytest.raises(NotFoundError, match=f"{name!r} does not exist: a strength is .* 0 to 2 .* two decimals"):
        adapters.resolve(name, "admin")


@pytest.mark.parametrize("name", ["Org/Base@0.5", "Qwen/Qwen3-32B@0.5", "repo/bake/8@0.5", "other/repo/bake@0.5"])
async def test_only_bakes_that_are_served_have_strengths(make: Callable[..., Checkpoint], name: str) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    with pytest.raises(NotFoundError, match="nearest first"):
        adapters.resolve(name, "admin")


async def test_publishing_moves_the_name_and_keeps_the_old_checkpoint(make: Callable[..., Checkpoint]) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9, job_id=1))
    adapters.publish(make(4, job_id=2))
    assert adapters.resolve("repo/bake", "admin").name == "admin/repo/bake/4"
    assert adapters.resolve("repo/bake/9", "admin").name == "admin/repo/bake/9"


async def test_a_restart_serves_what_was_served(make: Callable[..., Checkpoint]) -> None:
    adapters = registry(LoraEngine())
    newest, other = make(4, job_id=2), make(9, job_id=1)
    adapters.restore([newest, other], [newest, other])
    assert adapters.resolve("repo/bake", "admin").name == "admin/repo/bake/4"
    names = [model.name for model in adapters.models("admin")]
    assert names == ["Org/Base", "repo/bake", "admin/repo/bake/4", "admin/repo/bake/9"]


@pytest.mark.parametrize("name", ["repo/bakery", "repo/bake/8", "other/repo/bake", "x", "", "../repo/bake"])
async def test_an_unknown_name_is_an_error_with_the_nearest(make: Callable[..., Checkpoint], name: str) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    with pytest.raises(NotFoundError, match="repo/bake"):
        adapters.resolve(name, "admin")


async def test_another_users_models_are_neither_found_nor_named(make: Callable[..., Checkpoint]) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    for name in ("repo/bake", "admin/repo/bake", "admin/repo/bake/9"):
        with pytest.raises(NotFoundError) as raised:
            adapters.resolve(name, "bob")
        assert "nearest first: Org/Base" in raised.value.message
    assert [model.name for model in adapters.models("bob")] == ["Org/Base"]


async def test_the_embedded_model_answers_to_the_names_of_our_users_scripts() -> None:
    assert registry(LoraEngine()).resolve("Qwen/Qwen3-32B", "admin").name == "Org/Base"
    strict = Registry(LoraEngine(), BaseModelNames(served="Org/Base", stands_in=False))
    with pytest.raises(NotFoundError):
        strict.resolve("Qwen/Qwen3-32B", "admin")


async def test_an_adapter_that_is_served_as_it_was_trained_is_proved(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine(logprob=-1.02)
    await registry(engine).prove(make(9))
    assert "admin/repo/bake/9" in engine.loaded


async def test_an_adapter_that_is_served_otherwise_is_refused_and_unloaded(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine(logprob=-2.0)  # what the base model says: the adapter has no effect
    with pytest.raises(AdapterError, match=r"differ from the trainer's by 1\.000 nats"):
        await registry(engine).prove(make(9))
    assert engine.loaded == {}


async def test_a_small_effect_that_does_not_arrive_is_not_overlooked(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine(logprob=-2.0)
    small = make(9, logprobs=[-1.75, -2.0])
    with pytest.raises(AdapterError, match=r"show 0\.00 of the effect"):
        await registry(engine).prove(small)
    assert engine.loaded == {}


async def test_broken_files_never_reach_the_engine(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine()
    checkpoint = make(9)
    weights = checkpoint.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(AdapterError):
        await registry(engine).prove(checkpoint)
    assert engine.loaded == {}


async def test_a_withdrawn_bake_is_not_found_and_its_adapters_are_unloaded(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine()
    adapters = registry(engine)
    checkpoint = make(9)
    await adapters.prove(checkpoint)
    adapters.publish(checkpoint)
    withdrawn = adapters.withdraw("admin", "repo", "bake")
    with pytest.raises(NotFoundError):
        adapters.resolve("repo/bake", "admin")
    await adapters.unload(withdrawn)
    assert engine.loaded == {}


async def test_a_checkpoint_that_is_retired_is_gone_and_the_others_serve_on(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine()
    adapters = registry(engine)
    for checkpoint in (old := make(4), make(9)):
        await adapters.prove(checkpoint)
        adapters.publish(checkpoint)
    await adapters.retire(old)
    assert list(engine.loaded) == ["admin/repo/bake/9"]
    assert adapters.resolve("repo/bake", "admin").name == "admin/repo/bake/9"
    with pytest.raises(NotFoundError):
        adapters.resolve("repo/bake/4", "admin")


async def test_a_bake_whose_only_checkpoint_is_retired_is_not_listed(make: Callable[..., Checkpoint]) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(only := make(4))
    await adapters.retire(only)
    assert [model.checkpoint for model in adapters.models("admin")] == [None]
    assert adapters.count == 0


async def test_an_import_that_was_tried_is_published_without_being_loaded_again(
    make: Callable[..., Checkpoint],
) -> None:
    engine = LoraEngine()
    adapters, checkpoint = registry(engine), make(9)
    files = checkpoint.path.with_name("under-way")
    checkpoint.path.rename(files)
    assert await adapters.probe(files)
    assert list(engine.loaded.values()) == [files]
    files.rename(checkpoint.path)
    adapters.publish_probed(files, checkpoint)
    await adapters.forget_probed(files)
    assert engine.loaded == {"admin/repo/bake/9": checkpoint.path}
    assert adapters.resolve("repo/bake", "admin").checkpoint == checkpoint


@pytest.mark.parametrize("logprob", [float("nan"), -float("inf")])
async def test_an_import_that_does_not_answer_is_refused_and_can_be_forgotten(
    make: Callable[..., Checkpoint], logprob: float
) -> None:
    engine, files = LoraEngine(logprob), make(9).path
    adapters = registry(engine)
    with pytest.raises(AdapterError, match="not finite"):
        await adapters.probe(files)
    await adapters.forget_probed(files)
    assert engine.loaded == {}
