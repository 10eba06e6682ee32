"""What the training process says on its standard output: one JSON object a line, told apart by `event`.

The process that started it reads them without torch.
"""

import msgspec

from baker.types import Loss


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event"):
    pass


class Started(Event, frozen=True, tag="started"):
    total_steps: int
    train_rows: int
    """Trajectories of one epoch."""
    held_out_rows: int
    trainable_parameters: int


class Stepped(Event, frozen=True, tag="step"):
    step: int
    """Optimizer steps so far."""
    total_steps: int
    epoch: float
    loss: float
    """Mean KL of the step's response tokens, in nats."""
    lr: float
    grad_norm: float
    """Before it is scaled down."""
    tokens_per_second: float
    """Tokens of contexts and responses, padding not counted."""


class Evaluated(Event, frozen=True, tag="evaluated"):
    step: int
    eval_kl: float
    """Mean KL of the held-out response tokens, in nats."""


class Warned(Event, frozen=True, tag="warning"):
    message: str


class Saved(Event, frozen=True, tag="checkpoint"):
    step: int
    path: str
    sha256: str


class Failed(Event, frozen=True, tag="error"):
    """The last event of a process that ends with exit code 1; no checkpoint was published."""

    message: str
    code: str


class Done(Event, frozen=True, tag="done"):
    """The last event of a process that ends with exit code 0."""

    loss: Loss
    seconds: float


TrainEvent = Started | Stepped | Evaluated | Warned | Saved | Failed | Done

_DECODER: msgspec.json.Decoder[TrainEvent] = msgspec.json.Decoder(TrainEvent)


def encode(event: TrainEvent) -> bytes:
    """One line, with its line break."""
    return msgspec.json.encode(event) + b"\n"


def decode(line: bytes) -> TrainEvent:
    """Raises: msgspec.DecodeError if `line` is no event."""
    return _DECODER.decode(line)
