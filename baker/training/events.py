"""Events that a training process prints on its standard output: one JSON object per line, with its type in `event`.

Needs no torch, so the service can read them.
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
    """Number of trajectories in one epoch."""
    held_out_rows: int
    """Number of held-out trajectories."""
    trainable_parameters: int


class Planned(Event, frozen=True, tag="memory"):
    """The chosen memory layout. Nothing is loaded yet."""

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
    """Target -> eval_kl over its own tokens."""
    agreement: float | None = None
    """Share of those tokens at which student and teacher have the same likeliest token. None in training states of
    older versions."""
    agreement_by_target: dict[str, float] = {}


class Drifted(Event, frozen=True, tag="drift"):
    """The model's distance from the base on neutral questions."""

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
    """Time to write it."""
    bytes: int
    """Size of its arrays."""
    share: float
    """Share of the training time so far that was spent on writing states."""


class Failed(Event, frozen=True, tag="error"):
    """Last event of a process that ends with exit code 1. Its earlier checkpoints must not be used."""

    message: str
    code: str
    """`BakeryError.code`"""


class Done(Event, frozen=True, tag="done"):
    """Last event of a process that ends with exit code 0."""

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
    """Raises: msgspec.DecodeError if `line` is not an event."""
    return _DECODER.decode(line)
