"""Settings under `optimizer` and `scheduler`."""

from typing import Annotated

import msgspec

from baker.config.ranges import NonNegative
from baker.config.spellings import OPTIMIZERS, SCHEDULES, Curve, meaning


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "adamw"
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        meaning("type", self.type, OPTIMIZERS)
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {list(self.betas)}")


class SchedulerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "linear"
    warmup_steps: NonNegative = 3
    lr: float | None = None

    def __post_init__(self) -> None:
        meaning("type", self.type, SCHEDULES)
        if self.lr is not None:
            raise ValueError(f"lr is no longer read, and {self.lr:g} was given: set optimizer.learning_rate")

    @property
    def curve(self) -> Curve:
        """What the learning rate does after the warmup."""
        return meaning("type", self.type, SCHEDULES)
