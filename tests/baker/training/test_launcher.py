"""The training process as the service runs it. What it computes is in run/test_train.py."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.adapters.files import check_adapter
from baker.adapters.parity import read_parity
from baker.errors import EngineError, NeedsRoomError, StageError, TrainerLostError, TrainingError
from baker.training import events, launcher
from tests.baker.tiny import save_model
from tests.baker.training.run.test_train import write_spec

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The service's event loop, which takes fewer arguments for a process than asyncio's own."""
    return "asyncio", {"use_uvloop": True}


async def ignore(event: events.TrainEvent) -> None:
    return


async def test_the_process_s_events_arrive_one_by_one_and_each_checkpoint_after_its_step(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, save_model(tmp_path / "model"), checkpoint=[{"save_every_n_steps": 9}])
    heard: list[events.TrainEvent] = []

    async def hear(event: events.TrainEvent) -> None:
        heard.append(event)

    await launcher.train(spec, tmp_path, hear)
    saved = [event for event in heard if isinstance(event, events.Saved)]
    assert [event.step for event in saved] == [9, 18, 24]
    for folder in (Path(spec.output) / str(event.step) for event in saved):
        check_adapter(folder, max_rank=4)
        assert read_parity(folder).sequences
    assert len({event.sha256 for event in saved}) == 3
    order = [event.step for event in heard if isinstance(event, events.Stepped | events.Saved)]
    assert order == sorted(order), "a checkpoint is of the step before it"


async def test_the_process_s_message_is_the_error(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, tmp_path / "gone")
    with pytest.raises(StageError, match="gone can't be loaded"):
        await launcher.train(spec, tmp_path, ignore)


class Process:
    """A training process that prints these events and ends with exit code 1."""

    def __init__(self, *heard: events.TrainEvent) -> None:
        self.stdout = asyncio.StreamReader()
        self.stdout.feed_data(b"".join(map(events.encode, heard)))
        self.stdout.feed_eof()

    async def wait(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("TRAINING_FAILED", TrainingError),
        ("NEEDS_ROOM", NeedsRoomError),
        ("DISK_ERROR", StageError),
        ("ADAPTER_INVALID", StageError),
        ("INTERNAL_ERROR", StageError),
    ],
)
async def test_the_error_keeps_the_process_s_code(code: str, kind: type[StageError]) -> None:
    process: Any = Process(events.Warned("before"), events.Failed("it broke", code))
    with pytest.raises(StageError, match=r"^it broke$") as raised:
        await launcher._follow(process, ignore)
    assert type(raised.value) is kind and raised.value.code == code


async def test_a_process_that_ends_without_reporting_is_lost() -> None:
    process: Any = Process(events.Warned("before"))
    with pytest.raises(TrainerLostError, match="ended with exit code 1 before it was done"):
        await launcher._follow(process, ignore)


async def test_a_training_with_its_own_copy_survives_the_end_of_the_engine(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, save_model(tmp_path / "model"))
    spec = msgspec.structs.replace(spec, engine_weights=str(tmp_path / "of nobody"))
    heard: list[events.TrainEvent] = []
    has_stepped = asyncio.Event()

    async def hear(event: events.TrainEvent) -> None:
        heard.append(event)
        if isinstance(event, events.Stepped):
            has_stepped.set()

    async def gone() -> None:
        await has_stepped.wait()

    await launcher.train(spec, tmp_path, hear, gone)
    assert [event.is_last for event in heard if isinstance(event, events.Saved)] == [True]
    assert any("loads its own copy" in event.message for event in heard if isinstance(event, events.Warned))


async def test_a_failure_after_the_lender_ended_is_reported_as_an_engine_error(tmp_path: Path) -> None:
    """The training fails first, and the end of the engine is noticed a moment later."""
    spec = write_spec(tmp_path, tmp_path / "gone")
    has_failed = asyncio.Event()

    async def hear(event: events.TrainEvent) -> None:
        if isinstance(event, events.Failed):
            has_failed.set()

    async def gone() -> None:
        await has_failed.wait()
        await asyncio.sleep(0.1)

    with pytest.raises(EngineError, match="engine that lent its weights"):
        await launcher.train(spec, tmp_path, hear, gone)
