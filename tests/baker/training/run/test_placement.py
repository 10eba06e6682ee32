"""Where a bake's model lies, and what becomes of one that does not fit."""

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
from baker.training.run import memory, placement
from baker.training.run.builder import load
from baker.training.run.loop import Stopped
from baker.training.run.memory import MIB, Need, estimate, read_shape
from baker.training.run.placement import Layout, Room
from baker.training.run.train import train
from tests.baker.tiny import make_trajectories, save_model
from tests.baker.training.run.test_train import run, warnings_of, write_spec

CPU = torch.device("cpu")
ROWS = make_trajectories(15)
FORBIDDEN: dict[str, Any] = {"model": {"disable_activation_checkpoint": True}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(autouse=True)
def nothing_is_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """For so small a model, 8 rows that are evaluated would outweigh a step."""
    monkeypatch.setattr(memory, "READ_ROWS", 1)


def need(base: Path, *, recomputes: bool, at_once: int = 2) -> Need:
    """Of one device, as test_train's specs say."""
    config = bake_config({"micro_batch_size": at_once, "model": {"baked_adapter_config": {"r": 4}}})
    lengths = [length_of(row) for row in ROWS[3:]]
    return estimate(read_shape(base), config, lengths, dtype="float32", recomputes=recomputes)


def taken(need: Need) -> int:
    """Of it, what a process that runs already has not got."""
    return need.weights + need.adapter + need.activations + need.logits


class Alike(Ranks):
    """Several that see the same."""

    def least(self, value: float) -> float:
        return value

    def any(self, is_so: bool) -> bool:
        return is_so


def choose(
    folder: Path, base: Path, room: Room, monkeypatch: pytest.MonkeyPatch, devices: int = 1, **settings: Any
) -> tuple[Layout, list[events.TrainEvent]]:
    monkeypatch.setattr(placement, "_room", lambda spec, device, ranks: room)
    heard: list[events.TrainEvent] = []
    spec = write_spec(folder, base, ROWS, **settings)
    return placement._choose(spec, ROWS[3:], CPU, Alike(0, devices), heard.append), heard


def plans(heard: Sequence[events.TrainEvent]) -> list[tuple[MemoryWay, bool, bool]]:
    found = [event.memory for event in heard if isinstance(event, events.Planned)]
    return [(plan.way, plan.in_parts, plan.recomputes) for plan in found]


def test_what_would_not_fit_is_computed_again_and_gives_the_same_adapter(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_of = []
    for name, free in (("roomy", 2**60), ("narrow", taken(need(base, recomputes=True)))):
        monkeypatch.setattr("baker.training.run.placement.free_bytes", lambda free=free: free)
        heard = run(write_spec(tmp_path / name, base, ROWS, epochs=2))
        assert plans(heard) == [(MemoryWay.BESIDE, False, name == "narrow")]
        assert isinstance(heard[0], events.Planned) and heard[0].memory.free == free
        told = [warning for warning in warnings_of(heard) if "computed again" in warning]
        assert len(told) == (name == "narrow")
        assert all(warning.startswith(f"training needs {need(base, recomputes=False)}, and ") for warning in told)
        bytes_of.append((tmp_path / name / "out/12/adapter_model.safetensors").read_bytes())
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.parametrize("settings", [{}, FORBIDDEN])
def test_what_does_not_fit_at_all_is_refused_with_the_numbers_before_anything_is_loaded(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    least = need(base, recomputes=not settings, at_once=1)
    monkeypatch.setattr("baker.training.run.placement.free_bytes", lambda: taken(least) - 1)
    monkeypatch.setattr("baker.training.run.builder.load_base", lambda *how, **more: pytest.fail("it was loaded"))
    heard: list[events.TrainEvent] = []
    spec = write_spec(tmp_path, base, ROWS, **settings)
    with pytest.raises(StageError, match=r"lower data\.max_length") as refusal:
        load(spec, ROWS[3:], Ranks(), heard.append)
    free = f"{taken(least) / MIB:,.0f} MiB are free"
    assert str(least) in refusal.value.message and free in refusal.value.message
    assert ("disable_activation_checkpoint" in refusal.value.message) == bool(settings)
    (planned,) = (event.memory for event in heard if isinstance(event, events.Planned))
    assert planned.way is MemoryWay.REFUSED and planned.total == sum(planned.needed.values()) == least.total


def test_the_engine_is_to_sleep_only_if_nothing_fits_beside_it(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = taken(need(base, recomputes=True, at_once=1))
    layout, _ = choose(tmp_path, base, Room(least, 2**60), monkeypatch)
    assert layout == Layout(in_parts=False, recomputes=True, at_once=1)
    with pytest.raises(NeedsRoomError, match="it fits while the engine sleeps"):
        choose(tmp_path, base, Room(least - 1, 2**60), monkeypatch)
    with pytest.raises(StageError, match="or give it more memory"):
        choose(tmp_path, base, Room(least - 1, least - 1), monkeypatch)


@pytest.mark.parametrize("settings", [{}, FORBIDDEN])
def test_a_step_that_does_not_fit_is_computed_a_few_trajectories_at_a_time(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """And is the same step, but for rounding."""
    losses = []
    for name, at_once in (("roomy", 6), ("narrow", 3), ("narrower", 1)):
        free = taken(need(base, recomputes=not settings, at_once=at_once)) if at_once < 6 else 2**60
        monkeypatch.setattr("baker.training.run.placement.free_bytes", lambda free=free: free)
        heard = run(write_spec(tmp_path / name, base, ROWS, epochs=2, micro_batch_size=6, **settings))
        losses.append([event.loss for event in heard if isinstance(event, events.Stepped)])
        told = [warning for warning in warnings_of(heard) if f"{at_once} are computed at a time" in warning]
        assert len(told) == (at_once < 6)
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_a_machine_s_memory_is_shared_by_its_own_processes(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baker.training.run.placement.free_bytes", lambda: 1000)
    spec = write_spec(tmp_path, base, ROWS)
    assert placement._room(spec, CPU, Alike(0, 6, here=2)) == Room(500, 500)


def test_a_training_that_is_taken_up_again_computes_as_many_at_a_time_as_before(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much memory there is by then: the adapter is that of one that was never interrupted, to the byte."""
    settings = {"epochs": 2, "micro_batch_size": 6, "checkpoint": [{"state_every_n_seconds": 0}]}
    monkeypatch.setattr(
        "baker.training.run.placement.free_bytes", lambda: taken(need(base, recomputes=True, at_once=3))
    )
    made = []
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
            monkeypatch.setattr("baker.training.run.placement.free_bytes", lambda: 2**60)
        train(spec, lambda event: None)
        made.append((tmp_path / name / "out/4/adapter_model.safetensors").read_bytes())
    assert made[0] == made[1]


def test_beside_a_sleeping_engine_it_says_so(tmp_path: Path, base: Path) -> None:
    spec = msgspec.structs.replace(write_spec(tmp_path, base, ROWS, epochs=1), is_engine_asleep=True)
    assert plans(run(spec)) == [(MemoryWay.ASLEEP, False, False)]


def test_several_devices_part_the_weights_where_one_can_t_hold_them(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = need(base, recomputes=True, at_once=1)
    layout, heard = choose(tmp_path, base, Room(taken(whole) - whole.weights // 2, 0), monkeypatch, devices=2)
    assert layout.in_parts and plans(heard) == [(MemoryWay.BESIDE, True, layout.recomputes)]
    assert any("is parted among the 2 devices" in warning for warning in warnings_of(heard))
    layout, heard = choose(tmp_path, base, Room(2**60, 0), monkeypatch, devices=2)
    assert not layout.in_parts and warnings_of(heard) == []


@pytest.mark.parametrize(
    ("stage", "devices", "in_parts", "warning"),
    [
        (0, 2, False, None),
        (2, 2, False, "stage 2 is done as 0"),
        (3, 2, True, None),
        (3, 1, False, "stage 3 has no effect"),
        (0, 5, False, "5 devices share steps of 2 trajectories, so 3 of them wait"),
    ],
)
def test_the_stage_says_whether_weights_are_parted(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, stage: int, devices: int, in_parts: bool, warning: str
) -> None:
    settings = {"deepspeed": {"zero_optimization": {"stage": stage}}}
    layout, heard = choose(tmp_path, base, Room(2**60, 0), monkeypatch, devices, **settings)
    assert layout == Layout(in_parts, recomputes=False, at_once=-(-2 // devices))
    told = warnings_of(heard)
    assert len(told) == (warning is not None) and all(warning in text for text in told)
