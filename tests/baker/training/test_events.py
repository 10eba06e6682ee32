"""Events as lines."""

from typing import get_args

import msgspec
import pytest

from baker.status import KLChange, Loss, MemoryPlan, MemoryWay
from baker.training import events

LOSS = Loss(latest_loss=0.1 + 0.2, eval_kl_by_target={"target": KLChange(1.0, 1 / 3)})
PLAN = MemoryPlan(MemoryWay.BESIDE, {"weights": 8}, 8, None, devices=2, in_parts=False, recomputes=True)
ALL: list[events.TrainEvent] = [
    events.Planned(PLAN),
    events.Started(24, 12, 3, 4096),
    events.Resumed(7),
    events.LossUpdated(LOSS),
    events.Stepped(7, 24, 1.5, 1 / 3, 1e-4, 0.25, 99.5, round=1, rounds=2),
    events.Evaluated(7, 1 / 3, {"target": 1 / 3}, 0.5, {"target": 0.5}),
    events.Drifted(7, 0.03),
    events.Warned("a line\nbreak"),
    events.Saved(7, "0" * 64, is_last=True),
    events.Kept(7, 1.5, 10_000, 0.01),
    events.Failed("disk error", "DISK_ERROR"),
    events.Done(LOSS, 12.5),
]


def test_all_events_are_listed() -> None:
    assert {type(event) for event in ALL} == set(get_args(events.TrainEvent))


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_each_event_is_one_line_and_is_read_back(event: events.TrainEvent) -> None:
    line = events.encode(event)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert type(events.decode(line)) is type(event) and events.decode(line) == event


@pytest.mark.parametrize("line", [b"Loading weights", b"{}", b'{"event": "unknown"}', b'{"event": "resumed", "at": 7}'])
def test_other_lines_are_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        events.decode(line)
