"""What a bake's listener does with the events of its training processes."""

from typing import Any

import pytest

from baker.jobs.training_listener import TRAINING_SHARE, TrainingListener
from baker.status import Loss, MemoryPlan, MemoryWay, Progress
from baker.training import events
from baker.types import SavedCheckpoint

pytestmark = pytest.mark.anyio


class Row:
    """Records what the listener does."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.served: list[int] = []
        self.shown: list[Progress] = []
        self.is_away = False

    async def note(self, **changes: Any) -> None:
        self.notes.append(changes)

    async def warn(self, message: str) -> None:
        self.warnings.append(message)

    async def serve(self, saved: SavedCheckpoint) -> bool:
        self.served.append(saved.step)
        return not self.is_away

    def listener(self, percent: float = 0.0) -> TrainingListener:
        return TrainingListener(self.note, self.warn, self.serve, self.shown.append, percent)


def stepped(step: int) -> events.Stepped:
    return events.Stepped(step, 10, 0.5, 0.25, 0.1, 1.0, 10.0)


async def test_each_step_shows_the_loss_of_the_trainer_and_the_progress() -> None:
    row = Row()
    listener = row.listener()
    loss = Loss(latest_loss=0.25, min_loss=0.125)
    for event in (events.LossUpdated(loss), stepped(5)):
        await listener.hear(event)
    assert row.notes == [{"loss": loss, "progress_percent": TRAINING_SHARE / 2}]
    assert [type(progress) for progress in row.shown] == [Progress]
    assert (row.shown[0].step, row.shown[0].total_steps, row.shown[0].loss) == (5, 10, 0.25)


@pytest.mark.parametrize("event", [events.Evaluated(0, 0.5, {}), events.Drifted(0, 0.0)])
async def test_a_measurement_stores_the_loss_alone(event: events.TrainEvent) -> None:
    row = Row()
    listener = row.listener()
    for each in (events.LossUpdated(Loss(eval_kl=0.5)), event):
        await listener.hear(each)
    assert row.notes == [{"loss": Loss(eval_kl=0.5)}]


async def test_repeated_steps_do_not_lower_the_progress() -> None:
    row = Row()
    listener = row.listener(percent=58.2)
    for step in (5, 6, 7):
        await listener.hear(stepped(step))
    assert [note["progress_percent"] for note in row.notes] == [58.2, 58.2, pytest.approx(67.9)]


async def test_attempts_count_anew_with_the_first_state() -> None:
    row = Row()
    listener = row.listener()
    for step in (1, 2):
        await listener.hear(events.Kept(step, 1.0, 1, 0.0))
    assert row.notes == [{"attempts": 1}]


async def test_warnings_and_the_memory_plan_go_to_the_row() -> None:
    row = Row()
    plan = MemoryPlan(MemoryWay.BESIDE, {"weights": 8}, 8, 9, devices=1, in_parts=False, recomputes=False)
    for event in (events.Warned("short"), events.Planned(plan), events.Done(Loss(), 1.0)):
        await row.listener().hear(event)
    assert (row.warnings, row.notes) == (["short"], [{"memory": plan}])


async def test_checkpoints_that_could_not_be_proved_are_kept_for_later_and_the_last_is_not_served_here() -> None:
    row = Row()
    listener = row.listener()
    for step, is_away in ((2, False), (4, True), (6, False)):
        row.is_away = is_away
        await listener.hear(events.Saved(step, "0" * 64))
    await listener.hear(events.Saved(8, "1" * 64, is_last=True))
    assert row.served == [2, 4, 6]
    assert listener.unserved == [SavedCheckpoint(4, "0" * 64)]
    assert listener.last == SavedCheckpoint(8, "1" * 64)
    listener.begin_process()
    assert (listener.last, listener.unserved) == (None, [])
