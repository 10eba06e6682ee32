"""Settings under `checkpoint` and `publish_if`: what is saved, and what a result must show."""

from typing import Annotated

import msgspec

from baker.config.ranges import NonNegative, Share
from baker.config.spellings import CHECKPOINT_ENGINES, meaning
from baker.status import Loss

STATE_SECONDS = 30


class CheckpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a checkpoint is written besides the last one, which always is, and what an interruption costs."""

    type: str = "huggingface"
    output_dir: str | None = None
    """Stored, never written to: checkpoints are in the service's own folder."""
    enabled: bool = True
    auto_resume: bool | None = None
    """Whether an interrupted bake goes on from its last training state (absent: it does) or starts over."""
    save_every_n_steps: NonNegative = 0
    """0 is off."""
    save_every_n_epochs: NonNegative = 0
    save_end_of_training: bool = False
    """Stored: that is always done."""
    save_total_limit: NonNegative = 0
    """So many checkpoints are kept, the last one among them, and older ones go; 0: all."""
    state_every_n_seconds: NonNegative = STATE_SECONDS
    """Longest piece of training that an interruption may cost; 0: a step."""
    keep_state: bool = False
    """Whether the training state outlives the training."""

    def __post_init__(self) -> None:
        meaning("type", self.type, CHECKPOINT_ENGINES)


class PublishConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the result must show before the bake's name moves to it; nothing by default."""

    min_recovered: Share | None = None
    """Least share of the prompt's effect on held-out stimuli."""
    max_drift: Annotated[float, msgspec.Meta(ge=0.0)] | None = None
    """Most KL(base || baked) on neutral questions, in nats per token."""

    @property
    def is_set(self) -> bool:
        return self.min_recovered is not None or self.max_drift is not None

    def complaint(self, loss: Loss) -> str | None:
        """Why the result is to be held back; None if it is not. What could not be measured is not shown."""
        complaints = []
        if self.min_recovered is not None and (loss.recovered is None or not loss.recovered >= self.min_recovered):
            found = "is not known" if loss.recovered is None else f"{loss.recovered:.4g}"
            complaints.append(f"recovered {found}, publish_if.min_recovered {self.min_recovered:g}")
        if self.max_drift is not None and (loss.drift is None or not loss.drift <= self.max_drift):
            found = "is not known" if loss.drift is None else f"{loss.drift:.4g} nats per token"
            complaints.append(f"drift {found}, publish_if.max_drift {self.max_drift:g}")
        return "; ".join(complaints) or None
