"""When the training state is written, and what that costs: never more than a small share of the time."""

import time
from pathlib import Path

from baker.training import events
from baker.training import state as training_state
from baker.training.devices.ranks import ALONE, Ranks
from baker.training.events import Emit
from baker.training.run.loop import Loop
from baker.training.run.metrics import Metrics
from baker.training.spec import TrainSpec
from baker.training.state import TrainingState

MAX_SHARE = 0.02
"""Of the training time: where a state takes long to write, it is written less often."""


class StateWriter:
    """All processes of a training ask it alike; the first one looks at the clock and writes."""

    def __init__(self, spec: TrainSpec, loop: Loop, metrics: Metrics, emit: Emit, ranks: Ranks = ALONE) -> None:
        self._ranks = ranks
        self._folder = None if spec.state is None else Path(spec.state)
        self._fingerprint = spec.fingerprint()
        self._interval = spec.config.state_seconds
        self._loop, self._metrics, self._emit = loop, metrics, emit
        self._kept_step = loop.step
        self._begin = self._last = time.monotonic()
        self._seconds = self._total = 0.0
        """That the last state took, and that all did."""

    def keep_if_due(self) -> None:
        """After a step."""
        if self._folder is None or self._loop.step == self._loop.last_step:
            return
        wait = max(self._interval, self._seconds / MAX_SHARE) if self._interval else 0.0
        if self._ranks.by_first(lambda: time.monotonic() - self._last >= wait):
            self.keep()

    def keep(self) -> bool:
        """Write the state. Returns: False if it can't be written; true as well where none is to be kept."""
        if self._folder is None or self._loop.step == self._kept_step:
            return True
        begin = time.monotonic()
        state = self._loop.state()
        try:
            size = self._ranks.by_first(lambda: self._write(state))
        except OSError as error:
            # Not tried again at once: a full disk is slow to say so.
            self._last = time.monotonic()
            self._emit(events.Warned(f"the training state can't be written ({error.strerror}); the last one stands"))
            return False
        self._kept_step = state.standing.step
        self._last = time.monotonic()
        self._seconds = self._last - begin
        self._total += self._seconds
        milliseconds, share = round(1000 * self._seconds, 1), round(self._total / (self._last - self._begin), 4)
        self._metrics.costs = {"state_ms": milliseconds, "state_share": share}
        self._emit(events.Kept(self._kept_step, milliseconds, size, share))
        return True

    def _write(self, state: TrainingState) -> int:
        assert self._folder is not None
        self._metrics.flush()
        return training_state.write(self._folder, state, self._fingerprint)
