"""Writes what a training process reports into the job's row, and hands its checkpoints to publishing."""

from collections.abc import Awaitable, Callable

import msgspec

from baker.status import Loss, Progress
from baker.training import events
from baker.versions.publishing import Bake

TRAINING_SHARE = 97.0
"""Percent of a bake's progress; the rest is proving and publishing the checkpoint."""

Note = Callable[..., Awaitable[None]]
"""Sets columns of a job's row: note(job, column=value)."""
Serve = Callable[[Bake, events.Saved], Awaitable[bool]]
"""Proves and publishes a checkpoint; False if the engine is away."""


class TrainingListener:
    """Takes in what a training process says: into the job's row, and its checkpoints into service."""

    def __init__(self, bake: Bake, training: dict[int, Progress], note: Note, serve: Serve, *, is_new: bool) -> None:
        """Args: training: the latest step of each bake that trains, by its job's number."""
        self._bake, self._training, self._note, self._serve = bake, training, note, serve
        self.loss = Loss()
        self.unserved: list[events.Saved] = []
        """Checkpoints on the way that the engine was not there to prove."""
        self._percent = 0.0 if is_new else bake.job.progress_percent
        self._has_got_on = False

    async def hear(self, event: events.TrainEvent) -> None:
        job = self._bake.job
        match event:
            case events.Warned(message):
                await self._bake.warn(message)
            case events.Planned(memory=memory):
                await self._note(job, memory=memory)
            case events.LossUpdated(loss):
                self.loss = loss
            case events.Stepped():
                # Steps that come again after an interruption do not turn the clock back.
                share = round(TRAINING_SHARE * event.step / event.total_steps, 1)
                self._percent = max(self._percent, share)
                self._training[job.id] = msgspec.convert(event, Progress, from_attributes=True)
                await self._note(job, loss=self.loss, progress_percent=self._percent)
            case events.Evaluated() | events.Drifted():
                await self._note(job, loss=self.loss)
            case events.Kept() if not self._has_got_on:
                # The service may be killed as often as it likes while the bake gets on in between.
                self._has_got_on = True
                await self._note(job, attempts=1)
            case events.Saved(is_last=False) if not await self._serve(self._bake, event):
                self.unserved.append(event)
