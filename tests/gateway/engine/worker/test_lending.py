"""A training on the engine's weights. The engine is a real one on a CPU that keeps its weights as one on a GPU does."""

import asyncio
import gc
import multiprocessing
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from baker.errors import EngineError, NotLentError
from baker.storage.files import write_bytes
from baker.training import events, launcher
from baker.training.model.base import SDPA, from_files
from baker.training.model.engine_weights import Lent, from_engine, open_lent
from baker.training.spec import TrainSpec
from gateway.engine import Engine, EngineSettings
from gateway.engine.worker.lending import handles_of
from tests.baker.tiny import make_trajectories
from tests.baker.training.run.test_train import run, warnings_of, write_spec
from tests.gateway.engines import make_model

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def lender(engine: Engine, tiny_model: Path, anyio_backend: str) -> AsyncIterator[Engine]:
    settings = EngineSettings(
        model=tiny_model,
        name="lender",
        max_loras=1,
        max_cpu_loras=1,
        max_lora_rank=16,
        kv_cache_gib=0.0625,
        max_num_seqs=4,
        lends_weights=True,
        extra_args=["--worker-extension-cls", "tests.gateway.kept_weights.WorkerExtension"],
    )
    others = set(multiprocessing.active_children())
    lender = Engine(settings)
    await lender.start()
    cores = set(multiprocessing.active_children()) - others
    yield lender
    await lender.stop()
    del lender
    gc.collect()
    for core in cores:
        remove_shared_memory(core.pid)


def remove_shared_memory(core: int | None) -> None:
    """Remove shared memory of an engine core that was killed together with its resource tracker."""
    for left in Path("/dev/shm").glob(f"torch_{core}_*"):
        left.unlink()


@pytest.fixture
async def handles(lender: Engine, tmp_path: Path) -> Path:
    file = tmp_path / "handles.pickle"
    write_bytes(file, (await lender.lend_weights()).handles)
    return file


class Unsharable(torch.Tensor):
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("not today")


def dtype_of(engine: Engine) -> torch.dtype:
    """The engine's type: bfloat16 where the CPU can multiply it."""
    dtype: torch.dtype = engine.running().model_config.dtype
    return dtype


def spec_of(folder: Path, base: Path, handles: Path | None, **settings: Any) -> TrainSpec:
    spec = write_spec(folder, base, make_trajectories(15), **settings)
    return spec if handles is None else msgspec.structs.replace(spec, engine_weights=str(handles))


def weights_needed(received: list[events.TrainEvent]) -> int:
    (plan,) = (event.memory for event in received if isinstance(event, events.Planned))
    return plan.needed["weights"]


async def test_an_engine_on_a_cpu_has_nothing_to_lend(engine: Engine) -> None:
    with pytest.raises(NotLentError, match="packed for this device"):
        await engine.lend_weights()


async def test_an_error_of_the_worker_is_the_reason_not_to_lend(
    lender: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(method: str) -> None:
        raise RuntimeError("no such thing here")

    monkeypatch.setattr(lender.running(), "collective_rpc", fail)
    with pytest.raises(NotLentError, match="no such thing here"):
        await lender.lend_weights()


def worker(**changes: Any) -> SimpleNamespace:
    """The attributes of vLLM's worker that lending reads."""
    config_values: dict[str, Any] = {
        "world_size": 1,
        "quantization": None,
        "sleeps": False,
        "uva": 0,
        "prefetch": 0,
    } | changes
    weights: dict[str, torch.Tensor] = config_values.get("weights", {"norm.weight": torch.ones(2)})
    model = SimpleNamespace(
        named_parameters=lambda: [(name, SimpleNamespace(data=weight)) for name, weight in weights.items()],
        packed_modules_mapping={},
    )
    config = SimpleNamespace(
        parallel_config=SimpleNamespace(world_size=config_values["world_size"]),
        model_config=SimpleNamespace(
            quantization=config_values["quantization"],
            enable_sleep_mode=config_values["sleeps"],
            enable_cumem_allocator=False,
        ),
        offload_config=SimpleNamespace(
            uva=SimpleNamespace(cpu_offload_gb=config_values["uva"]),
            prefetch=SimpleNamespace(offload_group_size=config_values["prefetch"]),
        ),
    )
    runner = SimpleNamespace(get_model=lambda: model)
    return SimpleNamespace(vllm_config=config, model_runner=runner, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"world_size": 2}, "several devices"),
        ({"quantization": "fp8"}, r"quantised \(fp8\)"),
        ({"sleeps": True}, "can sleep"),
        ({"uva": 4.0}, "main memory"),
        ({"prefetch": 2}, "main memory"),
        ({"weights": {"up.weight": torch.ones(0)}}, "packed for this device, for example up.weight"),
        ({"weights": {"up.weight": torch.ones(2, device="meta")}}, "not all on the device, for example up.weight"),
        ({"weights": {"up.weight": Unsharable(torch.ones(2))}}, "can't share them between processes: not today"),
    ],
)
def test_a_worker_that_can_t_lend_gives_the_reason(changes: dict[str, Any], reason: str) -> None:
    answer = handles_of(worker(**changes))
    assert isinstance(answer, str) and re.search(reason, answer)


async def test_the_model_equals_the_files_and_uses_the_engine_s_memory(
    lender: Engine, handles: Path, tiny_model: Path
) -> None:
    dtype = dtype_of(lender)
    own = dict(from_files(tiny_model, dtype, SDPA).named_parameters())
    model = from_engine(open_lent(handles), tiny_model, dtype, SDPA)
    assert {name for name, _ in model.named_parameters()} == set(own)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, own[name]), name
        assert weight.is_shared(), name
        assert not own[name].is_shared(), "weights from a file are not shared, so is_shared() distinguishes them"
    attention = model.model.layers[0].self_attn
    memory = [getattr(attention, f"{part}_proj").weight.untyped_storage().data_ptr() for part in "qkv"]
    assert len(set(memory)) == 1, "three views of the tensor that vLLM fused"


async def test_a_training_on_them_gives_the_same_adapter_and_leaves_the_engine_as_it_was(
    lender: Engine, handles: Path, tiny_model: Path, tmp_path: Path
) -> None:
    context, response = [1, 5, 9], [7, 3, 200, 12]
    before = await lender.score(context, response)
    dtype = str(dtype_of(lender)).removeprefix("torch.")
    hashes = []
    for name, lent in (("own", None), ("lent", handles)):
        spec = spec_of(tmp_path / name, tiny_model, lent, model={"dtype": dtype})
        received: list[events.TrainEvent] = []

        async def receive(event: events.TrainEvent, received: list[events.TrainEvent] = received) -> None:
            received.append(event)

        await launcher.train(spec, tmp_path / name, receive)
        assert (weights_needed(received) == 0) is (lent is not None)
        assert not [warning for warning in warnings_of(received) if "copy" in warning]
        hashes.append([event.sha256 for event in received if isinstance(event, events.Saved)][-1])
    assert hashes[0] == hashes[1]
    assert await lender.score(context, response) == before


async def test_weights_of_another_model_are_refused(lender: Engine, handles: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", seed=1)
    with pytest.raises(NotLentError, match=r"its model\.embed_tokens\.weight is not that of .*other"):
        from_engine(open_lent(handles), other, dtype_of(lender), SDPA)


async def test_weights_of_another_type_are_refused(lender: Engine, handles: Path, tiny_model: Path) -> None:
    other = torch.float32 if dtype_of(lender) == torch.bfloat16 else torch.bfloat16
    with pytest.raises(NotLentError, match=f"is not that of .* in {other}"):
        from_engine(open_lent(handles), tiny_model, other, SDPA)


@pytest.mark.parametrize("content", [b"", b"\x80\x05]."], ids=["empty", "another object"])
def test_without_handles_a_training_takes_a_copy_with_a_warning(
    tmp_path: Path, tiny_model: Path, content: bytes
) -> None:
    (file := tmp_path / "handles.pickle").write_bytes(content)
    received = run(spec_of(tmp_path / "train", tiny_model, file, epochs=1))
    assert weights_needed(received) > 0
    (warning,) = (warning for warning in warnings_of(received) if "training loads its own copy" in warning)
    assert "its memory can't be opened" in warning
    assert isinstance(received[-1], events.Done)


async def test_layouts_that_differ_from_vllm_s_own_are_refused(lender: Engine, handles: Path, tiny_model: Path) -> None:
    weights, fused = open_lent(handles)
    first, norm = "model.layers.0.self_attn.qkv_proj.weight", "model.norm.weight"

    def load(lent: Lent) -> None:
        from_engine(lent, tiny_model, dtype_of(lender), SDPA)

    load(Lent(weights, fused))
    with pytest.raises(NotLentError, match=r"qkv_proj has 255 rows, not 256"):
        load(Lent({**weights, first: weights[first][:-1]}, fused))
    with pytest.raises(NotLentError, match=r"it has no model\.layers\.0\.self_attn\.[qkv]_proj\.weight"):
        load(Lent(weights, {}))
    with pytest.raises(NotLentError, match=r"self_attn\.[qkv]_proj\.weight is not that of"):
        load(Lent(weights, {**fused, "qkv_proj": ["v_proj", "k_proj", "q_proj"]}))
    with pytest.raises(NotLentError, match=r"model\.norm\.weight is not that of"):
        load(Lent({**weights, norm: weights[norm] + 1}, fused))


async def test_a_training_ends_with_the_engine_whose_weights_it_uses(
    lender: Engine, tiny_model: Path, tmp_path: Path
) -> None:
    """Runs last, since it kills this engine."""
    lent = await lender.lend_weights()
    write_bytes(handles := tmp_path / "handles.pickle", lent.handles)
    dtype = str(dtype_of(lender)).removeprefix("torch.")
    spec = spec_of(tmp_path / "train", tiny_model, handles, epochs=10_000, model={"dtype": dtype})
    received: list[events.TrainEvent] = []

    async def receive(event: events.TrainEvent) -> None:
        received.append(event)
        if len([each for each in received if isinstance(each, events.Stepped)]) == 3:
            lender.kill()

    async with asyncio.timeout(120):
        with pytest.raises(EngineError, match="engine that lent its weights"):
            await launcher.train(spec, tmp_path / "train", receive, lent.gone)
    assert weights_needed(received) == 0
    assert not list((tmp_path / "train/out").glob("*"))
    with pytest.raises(EngineError):
        await lender.lend_weights()
