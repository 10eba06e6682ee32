"""Writes the training state when it is due, in at most a small share of the training time."""

import time
from pathlib import Path
from typing import Protocol

from baker.training import events
from baker.training import state as training_state
from baker.training.run.run_context import RunContext
from baker.training.spec import TrainSpec
from baker.training.state import TrainingState

MAX_SHARE = 0.02
"""Largest share of the training time: a state that takes long to write is written less often."""


class StateSource(Protocol):
    """What the writer needs of a training loop."""

    @property
    def step(self) -> int:
        """Number of optimizer steps done."""
        ...

    @property
    def last_step(self) -> int:
        """The last step of the round; no state is due after it."""
        ...

    def state(self) -> TrainingState:
        """The state after `step`. Every process must call it."""
        ...


class StateWriter:
    """Every process of a training must make the same calls; the first one looks at the clock and writes."""

    def __init__(self, spec: TrainSpec, source: StateSource, context: RunContext) -> None:
        self._folder = None if spec.state is None else Path(spec.state)
        self._fingerprint = spec.fingerprint()
        self._min_interval = context.config.state_seconds
        self._source, self._context = source, context
        self._kept_step = source.step
        self._begin = self._last = time.monotonic()
        self._seconds = 0.0
        """Seconds that the last state took to write."""
        self._total_seconds = 0.0
        """Seconds that all states took to write."""

    def keep_if_due(self) -> None:
        """Call after each step."""
        if self._folder is None or self._source.step == self._source.last_step:
            return
        wait = max(self._min_interval, self._seconds / MAX_SHARE) if self._min_interval else 0.0
        if self._context.ranks.by_first(lambda: time.monotonic() - self._last >= wait):
            self.keep()

    def keep(self) -> bool:
        """Writes the state. Returns: False if it can't be written; True also if the spec names no folder for it."""
        if self._folder is None or self._source.step == self._kept_step:
            return True
        folder, begin = self._folder, time.monotonic()
        state = self._source.state()
        try:
            size = self._context.ranks.by_first(lambda: self._write(folder, state))
        except OSError as error:
            # Not tried again at once: a full disk takes long to report it.
            self._last = time.monotonic()
            self._context.emit(
                events.Warned(f"the training state can't be written ({error.strerror}): the previous state is kept")
            )
            return False
        self._kept_step = state.standing.step
        self._last = time.monotonic()
        self._seconds = self._last - begin
        self._total_seconds += self._seconds
        milliseconds = round(1000 * self._seconds, 1)
        share = round(self._total_seconds / (self._last - self._begin), 4)
        self._context.metrics.set_state_cost(milliseconds, share)
        self._context.emit(events.Kept(self._kept_step, milliseconds, size, share))
        return True

    def _write(self, folder: Path, state: TrainingState) -> int:
        """The metrics rows first: the state counts them. Returns: bytes of the state's arrays. Raises: OSError."""
        self._context.metrics.flush()
        return training_state.write(folder, state, self._fingerprint)
