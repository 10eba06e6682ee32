"""Which memory layout is chosen, and what happens to a bake that does not fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from baker.config.bake import bake_config
from baker.errors import NeedsRoomError, StageError
from baker.status import MemoryWay
from baker.training import events
from baker.training import state as training_state
from baker.training.data.batches import length_of
from baker.training.devices.ranks import Ranks
from baker.training.run.run_context import Stopped
from baker.training.run.train import train
from baker.training.setup import memory
from baker.training.setup.builder import build_student
from baker.training.setup.memory import (
    MIB,
    Need,
    estimate,
    read_shape,
)
from baker.training.setup.placement import FreeMemory, Layout, Placement
from tests.baker.tiny import make_trajectories, save_model
from tests.baker.training.run.test_train import run, warnings_of, write_spec

CPU = torch.device("cpu")
ROWS = make_trajectories(15)
FORBIDDEN: dict[str, Any] = {"model": {"disable_activation_checkpoint": True}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(autouse=True)
def _small_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """In such a small model, an evaluation of 8 rows would need more than a step."""
    monkeypatch.setattr(memory, "READ_ROWS", 1)


def need(base: Path, *, recomputes: bool, rows: int = 2) -> Need:
    """The need of one device for test_train's specs, with `rows` rows in a forward pass."""
    config = bake_config({"micro_batch_size": rows, "model": {"baked_adapter_config": {"r": 4}}})
    lengths = [length_of(row) for row in ROWS[3:]]
    return estimate(read_shape(base), config, lengths, dtype="float32", recomputes=recomputes)


def to_allocate(need: Need) -> int:
    """Bytes that a running process has yet to allocate."""
    return need.weights + need.adapter + need.activations + need.logits


class EqualRanks(Ranks):
    """Several processes that all have the same values."""

    def least(self, value: float) -> float:
        return value

    def any(self, condition: bool) -> bool:
        return condition


def choose(
    folder: Path, base: Path, free: FreeMemory, monkeypatch: pytest.MonkeyPatch, devices: int = 1, **settings: Any
) -> tuple[Layout, list[events.TrainEvent]]:
    monkeypatch.setattr(Placement, "free_memory", lambda self: free)
    heard: list[events.TrainEvent] = []
    spec = write_spec(folder, base, ROWS, **settings)
    return Placement(spec, ROWS[3:], CPU, EqualRanks(0, devices)).choose(heard.append), heard


def plans(heard: Sequence[events.TrainEvent]) -> list[tuple[MemoryWay, bool, bool]]:
    memory_plans = [event.memory for event in heard if isinstance(event, events.Planned)]
    return [(plan.way, plan.in_parts, plan.recomputes) for plan in memory_plans]


def test_activations_that_do_not_fit_are_computed_again_and_give_the_same_adapter(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_of = []
    for name, free in (("roomy", 2**60), ("narrow", to_allocate(need(base, recomputes=True)))):
        monkeypatch.setattr("baker.training.setup.placement.free_bytes", lambda free=free: free)
        heard = run(write_spec(tmp_path / name, base, ROWS, epochs=2))
        assert plans(heard) == [(MemoryWay.BESIDE, False, name == "narrow")]
        assert isinstance(heard[0], events.Planned) and heard[0].memory.free == free
        warnings = [warning for warning in warnings_of(heard) if "computed again" in warning]
        assert len(warnings) == (name == "narrow")
        assert all(warning.startswith(f"training needs {need(base, recomputes=False)}, and ") for warning in warnings)
        bytes_of.append((tmp_path / name / "out/12/adapter_model.safetensors").read_bytes())
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.parametrize("settings", [{}, FORBIDDEN])
def test_a_training_that_does_not_fit_is_refused_with_the_numbers_before_anything_is_loaded(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    least = need(base, recomputes=not settings, rows=1)
    monkeypatch.setattr("baker.training.setup.placement.free_bytes", lambda: to_allocate(least) - 1)
    monkeypatch.setattr(
        "baker.training.setup.builder.load_base", lambda *arguments, **named: pytest.fail("it was loaded")
    )
    heard: list[events.TrainEvent] = []
    spec = write_spec(tmp_path, base, ROWS, **settings)
    with pytest.raises(StageError, match=r"lower data\.max_length") as refusal:
        build_student(spec, ROWS[3:], Ranks(), heard.append)
    free = f"{to_allocate(least) / MIB:,.0f} MiB are free"
    assert str(least) in refusal.value.message and free in refusal.value.message
    assert ("disable_activation_checkpoint" in refusal.value.message) == bool(settings)
    (planned,) = (event.memory for event in heard if isinstance(event, events.Planned))
    assert planned.way is MemoryWay.REFUSED and planned.total == sum(planned.needed.values()) == least.total


def test_the_engine_must_sleep_only_if_nothing_fits_beside_it(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = to_allocate(need(base, recomputes=True, rows=1))
    layout, _ = choose(tmp_path, base, FreeMemory(least, 2**60), monkeypatch)
    assert layout == Layout(is_sharded=False, recomputes=True, most_rows=1)
    with pytest.raises(NeedsRoomError, match="it fits while the engine sleeps"):
        choose(tmp_path, base, FreeMemory(least - 1, 2**60), monkeypatch)
    with pytest.raises(StageError, match="or give it more memory"):
        choose(tmp_path, base, FreeMemory(least - 1, least - 1), monkeypatch)


@pytest.mark.parametrize("settings", [{}, FORBIDDEN])
def test_a_step_that_does_not_fit_is_computed_a_few_rows_at_a_time(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """It is the same step, except for rounding."""
    losses = []
    for name, rows in (("roomy", 6), ("narrow", 3), ("narrower", 1)):
        free = to_allocate(need(base, recomputes=not settings, rows=rows)) if rows < 6 else 2**60
        monkeypatch.setattr("baker.training.setup.placement.free_bytes", lambda free=free: free)
        heard = run(write_spec(tmp_path / name, base, ROWS, epochs=2, micro_batch_size=6, **settings))
        losses.append([event.loss for event in heard if isinstance(event, events.Stepped)])
        warnings = [
            warning
            for warning in warnings_of(heard)
            if f"only {rows} of a step's trajectories are computed at a time" in warning
        ]
        assert len(warnings) == (rows < 6)
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_a_machine_s_memory_is_shared_by_its_own_processes(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baker.training.setup.placement.free_bytes", lambda: 1000)
    spec = write_spec(tmp_path, base, ROWS)
    assert Placement(spec, ROWS, CPU, EqualRanks(0, 6, here=2)).free_memory() == FreeMemory(500, 500)


def test_a_continued_training_computes_as_many_rows_at_a_time_as_before(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much memory is free by then: the adapter equals that of an uninterrupted training, to the byte."""
    settings = {"epochs": 2, "micro_batch_size": 6, "checkpoint": [{"state_every_n_seconds": 0}]}
    monkeypatch.setattr(
        "baker.training.setup.placement.free_bytes", lambda: to_allocate(need(base, recomputes=True, rows=3))
    )
    adapters = []
    for name in ("whole", "interrupted"):
        spec = write_spec(tmp_path / name, base, ROWS, **settings)
        spec = msgspec.structs.replace(spec, state=str(tmp_path / name / "state"))
        if name == "interrupted":
            steps: list[events.TrainEvent] = []

            def hear(event: events.TrainEvent, steps: list[events.TrainEvent] = steps) -> None:
                steps.extend([event] if isinstance(event, events.Stepped) else [])

            with pytest.raises(Stopped):
                train(spec, hear, lambda steps=steps: len(steps) >= 2)
            state = training_state.find(tmp_path / name / "state", spec.fingerprint())
            assert state is not None
            assert training_state.read(state).standing.at_once == 3
            spec = msgspec.structs.replace(spec, resume=str(state))
            monkeypatch.setattr("baker.training.setup.placement.free_bytes", lambda: 2**60)
        train(spec, lambda event: None)
        adapters.append((tmp_path / name / "out/4/adapter_model.safetensors").read_bytes())
    assert adapters[0] == adapters[1]


def test_the_plan_says_whether_the_engine_sleeps(tmp_path: Path, base: Path) -> None:
    spec = msgspec.structs.replace(write_spec(tmp_path, base, ROWS, epochs=1), is_engine_asleep=True)
    assert plans(run(spec)) == [(MemoryWay.ASLEEP, False, False)]


def test_several_devices_shard_weights_that_do_not_fit_one(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = need(base, recomputes=True, rows=1)
    layout, heard = choose(
        tmp_path, base, FreeMemory(to_allocate(whole) - whole.weights // 2, 0), monkeypatch, devices=2
    )
    assert layout.is_sharded and plans(heard) == [(MemoryWay.BESIDE, True, layout.recomputes)]
    assert any("is sharded over the 2 devices" in warning for warning in warnings_of(heard))
    layout, heard = choose(tmp_path, base, FreeMemory(2**60, 0), monkeypatch, devices=2)
    assert not layout.is_sharded and warnings_of(heard) == []


@pytest.mark.parametrize(
    ("stage", "devices", "is_sharded", "warning"),
    [
        (0, 2, False, None),
        (2, 2, False, "stage 2 has the effect of 0"),
        (3, 2, True, None),
        (3, 1, False, "stage 3 has no effect"),
        (0, 5, False, "5 devices share steps of 2 trajectories, so 3 of them wait"),
    ],
)
def test_the_stage_decides_whether_weights_are_sharded(
    tmp_path: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: int,
    devices: int,
    is_sharded: bool,
    warning: str,
) -> None:
    settings = {"deepspeed": {"zero_optimization": {"stage": stage}}}
    layout, heard = choose(tmp_path, base, FreeMemory(2**60, 0), monkeypatch, devices, **settings)
    assert layout == Layout(is_sharded, recomputes=False, most_rows=-(-2 // devices))
    warnings = warnings_of(heard)
    assert len(warnings) == (warning is not None) and all(warning in text for text in warnings)
