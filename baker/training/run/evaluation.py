"""Held-out divergence and drift of a training: what is due after a step, measured, with its events and metrics rows."""

import math
from collections.abc import Mapping, Sequence

from baker.errors import TrainingError
from baker.training import events
from baker.training.data.batches import READ_ROWS, Batch, length_of, make_batch, plan_epoch, read_groups
from baker.training.model.student import Compared, Student, total
from baker.training.run.history import History
from baker.training.run.run_context import RunContext
from baker.training.run.step_plan import StepPlan
from baker.types import Trajectory

EVALUATIONS = 10
"""Number of equal parts into which evaluations divide a training if the config sets no interval."""

MAX_COST = 0.03
"""Largest share of a training's time that these evaluations may take."""

STEP_COST = 2.5
"""Time to train on a token over the time to evaluate one. Measured on the embedded model with two cores."""


def default_interval(plan: StepPlan, held_out_tokens: int) -> int:
    """Steps between evaluations if the config sets none; 0: none on the way.

    Depends on token counts only, so a training that resumes evaluates after the same steps.
    """
    if not held_out_tokens:
        return 0
    affordable = int(MAX_COST * STEP_COST * plan.tokens / held_out_tokens)
    if not affordable:
        return 0
    steps = plan.last_step - plan.first_step
    return max(math.ceil(plan.total_steps / EVALUATIONS), math.ceil(steps / (affordable + 1)))


class Evaluation:
    """Processes share the batches of a measurement."""

    def __init__(
        self,
        student: Student,
        context: RunContext,
        plan: StepPlan,
        history: History,
        held_out: Mapping[str, Sequence[Trajectory]],
        neutral: Sequence[Trajectory] = (),
    ) -> None:
        """Args:
        history: read for the step and for what was measured already; measurements are added to it.
        held_out: rows of each target, for the held-out divergence.
        neutral: the base model's own answers, for the drift.
        """
        self._student, self._context, self._plan, self._history = student, context, plan, history
        self._held_out = {target: _batches(rows) for target, rows in held_out.items()}
        self._neutral = _batches(neutral)
        tokens = sum(length_of(row) for rows in held_out.values() for row in rows)
        chosen = context.config.eval_interval
        self._interval: int = default_interval(plan, tokens) if chosen is None else chosen

    def run_due(self) -> bool:
        """Measures what is due after the history's step and not done yet. Returns: whether anything was.

        Raises: TrainingError if a result is not finite; Stopped.
        """
        is_held_out_due, is_drift_due = self._is_held_out_due(), self._is_drift_due()
        if is_held_out_due:
            self._measure_held_out()
        if is_drift_due:
            self._measure_drift()
        return is_held_out_due or is_drift_due

    def _is_held_out_due(self) -> bool:
        step, interval = self._history.step, self._interval
        is_at_an_end = step in (0, self._plan.first_step, self._plan.last_step)
        is_due = is_at_an_end or (interval > 0 and step % interval == 0)
        evaluations = self._history.evaluations
        is_done = bool(evaluations) and evaluations[-1].step == step
        return bool(self._held_out) and is_due and not is_done

    def _is_drift_due(self) -> bool:
        step, drifts = self._history.step, self._history.drifts
        is_done = bool(drifts) and drifts[-1].step == step
        return bool(self._neutral) and step in (0, self._plan.total_steps) and not is_done

    def _measure_held_out(self) -> None:
        step = self._history.step
        by_target = {target: self._compare(batches) for target, batches in self._held_out.items()}
        overall = total(by_target.values())
        if not math.isfinite(overall.kl):
            raise TrainingError(f"step {step}: the held-out divergence is {overall.kl}; lower optimizer.learning_rate")
        event = events.Evaluated(
            step,
            overall.kl,
            {target: compared.kl for target, compared in by_target.items()},
            overall.agreement,
            {target: compared.agreement for target, compared in by_target.items()},
        )
        self._history.add_evaluation(event)
        self._context.emit(events.LossUpdated(self._history.loss))
        self._context.emit(event)
        row = {
            "iter": step,
            "epoch": self._plan.epoch_at(step),
            "eval_loss": event.eval_kl,
            "eval_kl_by_target": event.by_target,
            "eval_agreement": event.agreement,
            "eval_agreement_by_target": event.agreement_by_target,
        }
        if self._history.loss.recovered is not None:
            row["recovered"] = self._history.loss.recovered
        self._context.add_row(row)

    def _measure_drift(self) -> None:
        """Before a training that starts from the base model, the drift is 0 without a measurement."""
        step = self._history.step
        drift = self._compare(self._neutral).kl if step or self._context.has_parent else 0.0
        if not math.isfinite(drift):
            raise TrainingError(f"step {step}: the drift is {drift}; lower optimizer.learning_rate")
        event = events.Drifted(step, drift)
        self._history.add_drift(event)
        self._context.emit(events.LossUpdated(self._history.loss))
        self._context.emit(event)
        self._context.add_row({"iter": step, "epoch": self._plan.epoch_at(step), "drift": drift})

    def _compare(self, batches: Sequence[Batch]) -> Compared:
        """Sums over all processes. Each makes the same number of passes; a pass without a batch of its own counts
        nothing."""
        ranks, own_parts = self._context.ranks, []
        for begin in range(0, len(batches), ranks.size):
            self._context.check_stopping()
            own = begin + ranks.rank
            compared = self._student.compare(batches[own if own < len(batches) else begin])
            own_parts += [compared] if own < len(batches) else []
        nats, agreed, tokens = ranks.sum(total(own_parts))
        return Compared(nats, int(agreed), int(tokens))


def _batches(rows: Sequence[Trajectory]) -> list[Batch]:
    """Batches of rows of similar length."""
    plan = plan_epoch([length_of(row) for row in rows], READ_ROWS, seed=0)
    return [make_batch(group) for batch in plan for group in read_groups([rows[index] for index in batch])]
