"""Settings under `optimizer` and `scheduler`."""

from typing import Annotated

import msgspec

from baker.config.mistakes import Mistake, check
from baker.config.ranges import NonNegative
from baker.config.spellings import OPTIMIZERS, SCHEDULES, Curve, meaning, misspelling


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "adamw"
    """Name of AdamW in any common spelling; there is no other optimizer."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)] = 1e-3
    """Highest learning rate, reached after the warmup."""
    weight_decay: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    """Weight decay, decoupled from the gradient."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's two moments."""
    max_grad_norm: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Largest gradient norm; larger gradients are scaled down to it."""

    def __post_init__(self) -> None:
        are_rates = all(0.0 <= beta < 1.0 for beta in self.betas)
        check(
            misspelling("type", self.type, OPTIMIZERS),
            None if are_rates else Mistake(("betas",), f"must be at least 0 and below 1, got {list(self.betas)}"),
        )


class SchedulerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "linear"
    """Curve of the learning rate after a linear warmup: `linear`, `cosine` or `constant`."""
    warmup_steps: NonNegative = 3
    """Number of optimizer steps until the learning rate reaches its highest value."""
    lr: float | None = None
    """Must be absent: set optimizer.learning_rate."""

    def __post_init__(self) -> None:
        replaced = f"is no longer supported, got {self.lr}: set optimizer.learning_rate"
        check(misspelling("type", self.type, SCHEDULES), None if self.lr is None else Mistake(("lr",), replaced))

    @property
    def curve(self) -> Curve:
        """Curve of the learning rate after the warmup."""
        return meaning("type", self.type, SCHEDULES)
