"""Judges whether a training learned anything."""

from collections.abc import Sequence
from statistics import fmean

from baker.errors import TrainingError
from baker.status import NEGLIGIBLE_KL
from baker.training import events

FAR_OFF = 2.0
"""A held-out divergence that grew by this factor is not chance, however few the steps."""

STEPS_TO_JUDGE = 12
"""With fewer steps, a loss that does not fall may as well be chance as a fault."""


def judge(losses: Sequence[float], evaluations: Sequence[events.Evaluated]) -> str | None:
    """A warning if there was nothing to learn or nothing was learned; None if the training worked.

    Targets on which teacher and student agreed from the start are ignored: their divergence can only grow. Such targets
    have the same prompt twice, to pin behaviour.

    Raises: TrainingError if neither the loss nor the held-out divergence of any target fell, or the divergence grew
    more than `FAR_OFF` times.
    """
    quarter = max(1, len(losses) // 4)
    first, last = fmean(losses[:quarter]), fmean(losses[-quarter:])
    starts = evaluations[0].by_target if evaluations else {"": first}
    to_learn = [target for target, kl in starts.items() if kl >= NEGLIGIBLE_KL]
    if not to_learn:
        start = max(starts.values())
        return f"teacher and student agreed from the start (divergence {start:.2g} nats per token): little to learn"
    ends = evaluations[-1].by_target if evaluations else {}
    has_improved = any(ends[target] < starts[target] for target in to_learn if target in ends)
    worst = max((ends[target] / starts[target] for target in to_learn if target in ends), default=1.0)
    if not has_improved and worst > FAR_OFF:
        raise TrainingError(
            f"the held-out divergence did not fall but grew {worst:.1f} times: lower optimizer.learning_rate"
        )
    if len(losses) >= STEPS_TO_JUDGE and last >= first and not has_improved:
        raise TrainingError(
            f"the loss did not fall: {first:.4f} nats per token in the first {quarter} steps, {last:.4f} in the last; "
            f"try a lower optimizer.learning_rate"
        )
    if ends and not has_improved:
        return f"the held-out divergence did not fall (it is {worst:.2f} times as large): more questions may help"
    return None
