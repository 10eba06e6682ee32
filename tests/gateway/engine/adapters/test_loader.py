"""Adapters on their way into vLLM's worker and out of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baker.errors import AdapterError, EngineError, NotFoundError
from gateway.engine import Engine
from gateway.engine.adapters.loader import FAILED_PREFIX, LoraLoader
from tests.gateway.engines import (
    greedy,
    make_adapter,
)

pytestmark = pytest.mark.anyio


def _without_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def _with_broken_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"garbage")


def _without_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


@pytest.mark.parametrize("damage", [_without_weights, _with_broken_weights, _without_config])
async def test_a_broken_adapter_is_refused_and_the_engine_lives(engine: Engine, tmp_path: Path, damage: Any) -> None:
    path = make_adapter(tmp_path / "adapter", 1)
    damage(path)
    with pytest.raises(AdapterError, match="admin/repo/broken/1"):
        await engine.load("admin/repo/broken/1", path)
    assert not engine.is_loaded("admin/repo/broken/1")
    with pytest.raises(NotFoundError):
        await engine.lease("admin/repo/broken/1")
    assert (await greedy(engine)).response_ids


async def test_a_rank_above_the_engines_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = make_adapter(tmp_path / "adapter", 1, rank=32)
    with pytest.raises(AdapterError, match="rank 32 is above the engine's maximum of 16"):
        await engine.load("admin/repo/wide/1", path)


class Worker:
    """vLLM's engine as the loader uses it: takes every adapter, or fails as `error` says."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.accepts = True
        self.removed: list[int] = []

    async def add_lora(self, request: Any) -> bool:
        if self.error is not None:
            raise self.error
        return self.accepts

    async def remove_lora(self, number: int) -> bool:
        self.removed.append(number)
        if self.error is not None:
            raise self.error
        return True


@pytest.fixture
def worker(engine: Engine) -> Worker:
    """The real engine imports vLLM, which names adapters."""
    return Worker()


def loader_of(worker: Worker) -> tuple[LoraLoader, dict[str, Any]]:
    """A loader, and the adapters that vLLM's serving code knows by name."""
    names: dict[str, Any] = {}
    serving = SimpleNamespace(openai_serving_models=SimpleNamespace(lora_requests=names))
    loading: Any = SimpleNamespace(path=Path(), max_lora_rank=8, serving=serving, running=lambda: worker)
    return LoraLoader(loading), names


async def test_an_adapter_is_known_by_name_from_its_load_to_its_removal(worker: Worker) -> None:
    loader, names = loader_of(worker)
    await loader.add("a", 1, Path("/adapters/a"))
    assert (names["a"].lora_int_id, names["a"].lora_path) == (1, "/adapters/a")
    loader.rename("a", "b", 1, Path("/adapters/b"))
    assert set(names) == {"b"} and (names["b"].lora_int_id, names["b"].lora_path) == (1, "/adapters/b")
    loader.rename("a", "c", 2, Path("/adapters/c"))
    assert set(names) == {"b"}, "an adapter that was not loaded stays unknown"
    await loader.remove("b", 1)
    assert not names and worker.removed == [1]


async def test_a_name_that_means_another_adapter_by_now_stays(worker: Worker) -> None:
    loader, names = loader_of(worker)
    await loader.add("a", 2, Path("/adapters/new"))
    await loader.remove("a", 1)
    assert names["a"].lora_int_id == 2 and worker.removed == [1]


async def test_the_workers_reason_is_the_message_and_nothing_is_left(worker: Worker) -> None:
    loader, names = loader_of(worker)
    worker.error = Exception(f"{FAILED_PREFIX}its weights are not finite")
    with pytest.raises(AdapterError, match=r"'a' from /adapters/a: its weights are not finite$"):
        await loader.add("a", 1, Path("/adapters/a"))
    assert not names and worker.removed == [1]
    worker.error, worker.accepts = None, False
    with pytest.raises(AdapterError, match="does not accept"):
        await loader.add("a", 1, Path("/adapters/a"))


async def test_a_dead_engine_is_no_fault_of_the_adapter(worker: Worker) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    loader, _ = loader_of(worker)
    worker.error = EngineDeadError()
    with pytest.raises(EngineError, match="died while it loaded adapter 'a'"):
        await loader.add("a", 1, Path("/adapters/a"))
    await loader.remove("a", 1)
