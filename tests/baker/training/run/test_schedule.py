import math
from typing import Any

import pytest

from baker.config.optimizer import SchedulerConfig
from baker.training.run.schedule import schedule


def test_schedules_warm_up_and_decay() -> None:
    def shares(kind: Any, warmup: int, total: int) -> list[float]:
        return [schedule(SchedulerConfig(type=kind, warmup_steps=warmup), step, total) for step in range(1, total + 1)]

    assert shares("constant", 3, 6) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert shares("linear", 0, 4) == pytest.approx([1, 0.75, 0.5, 0.25])
    assert shares("linear", 1, 5) == pytest.approx([0.5, 1, 0.75, 0.5, 0.25])
    assert shares("cosine", 0, 4) == pytest.approx([(1 + math.cos(math.pi * part / 4)) / 2 for part in range(4)])
    for kind in ("constant", "linear", "cosine"):
        assert shares(kind, 9, 1) == [1.0]
        assert all(share > 0 for share in shares(kind, 9, 3))
