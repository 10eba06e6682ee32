"""What every part of a training run shares: settings, outputs, the other processes, and the request to stop."""

from collections.abc import Callable
from typing import NamedTuple

from baker.config.bake import BakeConfig
from baker.training.devices.ranks import ALONE, Ranks
from baker.training.events import Emit
from baker.training.run.metrics import Metrics
from baker.training.spec import BEFORE_ROUNDS, Round


class Stopped(Exception):  # noqa: N818  # not an error: somebody asked for it
    """The training was asked to stop, and has stopped between two optimizer steps."""


class RunContext(NamedTuple):
    config: BakeConfig
    metrics: Metrics
    """Receiver of the metrics rows."""
    emit: Emit
    """Receiver of the events."""
    ranks: Ranks = ALONE
    """The processes that share this training."""
    is_stopping: Callable[[], bool] = lambda: False
    """Whether this process was asked to stop; called before each batch."""
    round: Round = BEFORE_ROUNDS
    """The round that this process trains."""
    has_parent: bool = False
    """Whether the training starts from a parent adapter, not from the base model."""

    def check_stopping(self) -> None:
        """Every process must call it. Raises: Stopped, in all of them, if any was asked to stop."""
        if self.ranks.any(self.is_stopping()):
            raise Stopped

    def add_row(self, row: dict[str, object]) -> None:
        """Adds a metrics row, with the round's number if the bake has on-policy rounds."""
        self.metrics.add(row | self.round_field)

    @property
    def round_field(self) -> dict[str, int]:
        """The field `round` of a metrics row; empty if the bake has no on-policy rounds."""
        return {"round": self.round.number} if self.config.data.on_policy.rounds else {}
