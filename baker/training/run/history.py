"""What a training has measured so far. A `TrainingState` carries it over an interruption."""

import msgspec

from baker.status import Loss
from baker.training.events import Drifted, Evaluated
from baker.training.state import Standing


class History(msgspec.Struct):
    step: int = 0
    """Number of optimizer steps done."""
    loss: Loss = Loss()
    """Summary of all that follows."""
    losses: list[float] = []
    """Loss of each step, in nats per response token."""
    evaluations: list[Evaluated] = []
    """Held-out evaluations before, during and after the training; empty without held-out rows."""
    drifts: list[Drifted] = []
    """Drift before and after the training; empty without neutral answers."""

    def add_step(self, loss: float) -> None:
        self.step += 1
        self.losses.append(loss)
        self.loss = self.loss.after_step(loss)

    def add_evaluation(self, event: Evaluated) -> None:
        self.evaluations.append(event)
        self.loss = self.loss.after_evaluation(
            event.eval_kl, event.by_target, event.agreement, event.agreement_by_target
        )

    def add_drift(self, event: Drifted) -> None:
        self.drifts.append(event)
        self.loss = self.loss.after_drift(event.step, event.drift)

    def restore(self, standing: Standing) -> None:
        """Replaces everything by what a training state holds."""
        self.step, self.loss, self.losses = standing.step, standing.loss, list(standing.losses)
        self.evaluations, self.drifts = list(standing.evaluations), list(standing.drifts)
