"""What the training process says on its standard output: one JSON object a line, told apart by `event`.

The process that started it reads them without torch.
"""

from collections.abc import Callable

import msgspec

from baker.status import Loss, MemoryPlan, Progress
from baker.types import SavedCheckpoint


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event"):
    pass


class Started(Event, frozen=True, tag="started"):
    total_steps: int
    train_rows: int
    """Trajectories of one epoch."""
    held_out_rows: int
    trainable_parameters: int


class Planned(Event, frozen=True, tag="memory"):
    """How the training comes by its memory; nothing is loaded yet."""

    memory: MemoryPlan


class Resumed(Event, frozen=True, tag="resumed"):
    """The training continues from its state after that step. Follows `Started`, if it comes at all."""

    step: int


class LossUpdated(Event, frozen=True, tag="loss"):
    """The loss so far. Comes just before the event that changed it: `Resumed`, `Stepped`, `Evaluated` or `Drifted`."""

    loss: Loss


class Stepped(Progress, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="step"):
    pass


class Evaluated(Event, frozen=True, tag="evaluated"):
    step: int
    eval_kl: float
    """Mean forward KL of the held-out response tokens, in nats."""
    by_target: dict[str, float]
    """The same over each target's own."""
    agreement: float | None = None
    """The share of those tokens at which student and teacher have the same likeliest one. None in the states of
    trainings that an older version began."""
    agreement_by_target: dict[str, float] = {}


class Drifted(Event, frozen=True, tag="drift"):
    """How far the model is from the base on neutral questions."""

    step: int
    drift: float
    """KL(base || baked), in nats per token."""


class Warned(Event, frozen=True, tag="warning"):
    message: str


class Saved(SavedCheckpoint, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="checkpoint"):
    """The checkpoint is on disk in `<TrainSpec.output>/<step>`. If states are kept, one of that step or later is too.

    A process that continues from a state reports all existing checkpoints again.
    """

    is_last: bool = False
    """Whether it is the result of the training."""


class Kept(Event, frozen=True, tag="state"):
    """The training state after that step is on disk."""

    step: int
    milliseconds: float
    bytes: int
    share: float
    """Of the training time so far that went into writing states."""


class Failed(Event, frozen=True, tag="error"):
    """The last event of a process that ends with exit code 1; what it saved before is of no use."""

    message: str
    code: str


class Done(Event, frozen=True, tag="done"):
    """The last event of a process that ends with exit code 0."""

    loss: Loss
    seconds: float


TrainEvent = (
    Planned | Started | Resumed | LossUpdated | Stepped | Evaluated | Drifted | Warned | Saved | Kept | Failed | Done
)

Emit = Callable[[TrainEvent], None]

_DECODER: msgspec.json.Decoder[TrainEvent] = msgspec.json.Decoder(TrainEvent)


def encode(event: TrainEvent) -> bytes:
    """One line, with its line break."""
    return msgspec.json.encode(event) + b"\n"


def decode(line: bytes) -> TrainEvent:
    """Raises: msgspec.DecodeError if `line` is no event."""
    return _DECODER.decode(line)
