"""Settings under `checkpoint` (what is saved, and when) and `publish_if` (when the result is published)."""

from typing import Annotated

import msgspec

from baker.config.mistakes import check
from baker.config.ranges import NonNegative, Share
from baker.config.spellings import CHECKPOINT_ENGINES, misspelling
from baker.status import Loss

STATE_SECONDS = 30


class CheckpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When checkpoints are saved besides the last one, which always is, and how an interrupted bake resumes."""

    type: str = "huggingface"
    """Must be `huggingface`: checkpoints are in PEFT's format."""
    output_dir: str | None = None
    """Stored without effect: checkpoints are always saved in the service's own folder."""
    enabled: bool = True
    """Whether this entry applies."""
    auto_resume: bool | None = None
    """Whether an interrupted bake resumes from its last training state (absent: yes) or starts over."""
    save_every_n_steps: NonNegative = 0
    """Number of optimizer steps between checkpoints; 0: off."""
    save_every_n_epochs: NonNegative = 0
    """Number of epochs between checkpoints; 0: off."""
    save_end_of_training: bool = False
    """Stored without effect: the last checkpoint is always saved."""
    save_total_limit: NonNegative = 0
    """Number of checkpoints to keep, including the last one; older ones are deleted. 0: keep all."""
    state_every_n_seconds: NonNegative = STATE_SECONDS
    """Seconds between writes of the training state, the most training that an interruption can lose; 0: write it after
    each step."""
    keep_state: bool = False
    """Whether the training state is kept when the bake is complete."""

    def __post_init__(self) -> None:
        check(misspelling("type", self.type, CHECKPOINT_ENGINES))


class PublishConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions on the result for moving the bake's name to it. By default there are none."""

    min_recovered: Share | None = None
    """Lowest allowed `recovered`: the share of the prompt's effect on held-out stimuli that the bake reproduces."""
    max_drift: Annotated[float, msgspec.Meta(ge=0.0)] | None = None
    """Highest allowed `drift`: KL(base || baked) on neutral questions, in nats per token."""

    @property
    def is_set(self) -> bool:
        return self.min_recovered is not None or self.max_drift is not None

    def complaint(self, loss: Loss) -> str | None:
        """Why the result is held back; None if it is not. A number that was not measured fails its condition."""
        complaints = []
        if self.min_recovered is not None and (loss.recovered is None or not loss.recovered >= self.min_recovered):
            measured = "was not measured" if loss.recovered is None else f"{loss.recovered:.4g}"
            complaints.append(f"recovered {measured}, publish_if.min_recovered {self.min_recovered:g}")
        if self.max_drift is not None and (loss.drift is None or not loss.drift <= self.max_drift):
            measured = "was not measured" if loss.drift is None else f"{loss.drift:.4g} nats per token"
            complaints.append(f"drift {measured}, publish_if.max_drift {self.max_drift:g}")
        return "; ".join(complaints) or None
