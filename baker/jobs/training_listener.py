"""Takes in the events of a training process: shows them in the job's row, and has new checkpoints served."""

from collections.abc import Awaitable, Callable

import msgspec

from baker.ports import Warn
from baker.status import Loss, Progress
from baker.training import events
from baker.types import SavedCheckpoint

TRAINING_SHARE = 97.0
"""Percent of a bake's progress; the rest is proving and publishing the checkpoint."""

Note = Callable[..., Awaitable[None]]
"""Sets columns of the job's row: note(column=value)."""
Serve = Callable[[SavedCheckpoint], Awaitable[bool]]
"""Proves and publishes a checkpoint; False if the engine is away."""


class TrainingListener:
    """One bake's listener, for all the training processes that it starts in turn."""

    def __init__(
        self, note: Note, warn: Warn, serve: Serve | None, show: Callable[[Progress], None], percent: float = 0.0
    ) -> None:
        """Args:
        serve: None: checkpoints are only counted.
        show: publishes the latest step.
        percent: the job's progress so far; a training that resumes an earlier one does not go below it.
        """
        self._note, self._warn, self._serve, self._show = note, warn, serve, show
        self._percent = percent
        self._has_kept_state = False
        self.loss = Loss()
        self.last: SavedCheckpoint | None = None
        """The latest checkpoint of the current process."""
        self.unserved: list[SavedCheckpoint] = []
        """Earlier checkpoints of that process that could not be proved, since the engine was away."""

    def begin_process(self) -> None:
        """Forget the last process's checkpoints: each process reports all existing ones."""
        self.last = None
        self.unserved.clear()

    async def hear(self, event: events.TrainEvent) -> None:
        match event:
            case events.Warned(message):
                await self._warn(message)
            case events.Planned(memory=memory):
                await self._note(memory=memory)
            case events.LossUpdated(loss):
                self.loss = loss
            case events.Stepped():
                share = round(TRAINING_SHARE * event.step / event.total_steps, 1)
                # Steps that are repeated after an interruption do not lower the progress.
                self._percent = max(self._percent, share)
                self._show(msgspec.convert(event, Progress, from_attributes=True))
                await self._note(loss=self.loss, progress_percent=self._percent)
            case events.Evaluated() | events.Drifted():
                await self._note(loss=self.loss)
            case events.Kept() if not self._has_kept_state:
                # The service may be killed any number of times as long as the bake makes progress in between.
                self._has_kept_state = True
                await self._note(attempts=1)
            case events.Saved(step, sha256):
                self.last = SavedCheckpoint(step, sha256)
                if not event.is_last and self._serve is not None and not await self._serve(self.last):
                    self.unserved.append(self.last)
