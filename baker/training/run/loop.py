"""The training loop: batches -> optimizer steps.

`train.py` decides what is trained on and what is done with the result. A loop that continues from another's state does
what that one would have done, to the bit where the device is deterministic (a CPU is). Several processes share each
step's rows and each evaluation's batches: the sums equal those of one process, except for rounding.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from baker.errors import TrainingError
from baker.status import NEGLIGIBLE_KL
from baker.training.data.batches import Batch, length_of, make_batch
from baker.training.data.work_split import share
from baker.training.devices.parallel import full_tensor
from baker.training.model.divergences import Measure
from baker.training.model.student import Student
from baker.training.model.teacher_states import TeacherStates
from baker.training.run.evaluation import Evaluation
from baker.training.run.history import History
from baker.training.run.loop_state import LoopState
from baker.training.run.progress import ProgressReporter, StepResult
from baker.training.run.run_context import RunContext
from baker.training.run.schedule import schedule
from baker.training.run.step_plan import StepPlan
from baker.training.state import Standing, TrainingState
from baker.types import Trajectory

FLOAT16_LOSS_SCALE = 1024.0
"""float16 has no gradient below 6e-8, and few digits below 6e-5. A power of two, so that it is undone exactly."""


class Step(NamedTuple):
    """One optimizer step: this process's batches, and the size of the step over all processes."""

    batches: list[Batch]
    """Batches of this process, one for each forward pass."""
    counted: int
    """Number of the batches that count; those after them have weight 0 (see `work_split.py`)."""
    responses: int
    """Number of response tokens of all processes."""
    tokens: int
    """Number of tokens of all processes, contexts and responses."""
    longest: int
    """Number of tokens of the longest row of all processes."""


class StepInFlight(NamedTuple):
    """An optimizer step that the device may still be computing."""

    begin: float
    """Start time, in monotonic seconds. The next step's batches and teacher states are prepared before it ends."""
    learning_rate: float
    losses: list[tuple[float, Tensor]]
    """For each batch: its weight in the step's mean, and its summed divergence in nats."""
    norm: Tensor
    """Gradient norm before clipping."""


class Loop:
    def __init__(
        self,
        student: Student,
        rows: list[Trajectory],
        context: RunContext,
        held_out: Mapping[str, Sequence[Trajectory]] | None = None,
        neutral: Sequence[Trajectory] = (),
    ) -> None:
        """Args:
        rows: of the context's round. A round other than the first needs `restore`.
        held_out: rows of each target, for the held-out divergence; none by default.
        neutral: the base model's own answers, for the drift.
        """
        config = context.config
        self._student, self._rows, self._context, self._config = student, rows, context, config
        self._measure = Measure(config.data.beta or 0.0, config.data.temperature)
        self._loss_scale = FLOAT16_LOSS_SCALE if student.model.dtype == torch.float16 else 1.0
        self._lengths = [length_of(row) for row in rows]
        self.plan = StepPlan(self._lengths, config, context.round)
        self.history = History()
        self._teacher = self._kept_teacher()
        self._evaluation = Evaluation(student, context, self.plan, self.history, held_out or {}, neutral)
        self.parameters = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
        """The trained weights."""
        optimizer = config.optimizer
        self._optimizer = torch.optim.AdamW(
            self.parameters,
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            weight_decay=optimizer.weight_decay,
            fused=True,
        )
        self._state = LoopState(self.parameters, self._optimizer, student.device, config.seed, context.ranks)
        self._progress = ProgressReporter(self.plan, context, student.device)

    @property
    def step(self) -> int:
        """Number of optimizer steps done."""
        return self.history.step

    @property
    def last_step(self) -> int:
        """The last step of this round."""
        return self.plan.last_step

    def steps(self) -> Iterator[int]:
        """Trains, and yields the number of each optimizer step after it, from 1.

        Raises: TrainingError if the loss is not finite or all gradients are zero; Stopped.
        """
        if self._evaluation.run_due() and self.step > self.plan.first_step:
            yield self.step
        self._progress.start_clock(self.step)
        while self.step < self.last_step:
            steps = self._steps_of_epoch()
            following = next(steps, None)
            while (current := following) is not None:
                in_flight = self._begin_step(current)
                following = next(steps, None)  # prepared while a GPU computes
                self._end_step(current, in_flight)
                self._evaluation.run_due()
                yield self.step

    def measure(self) -> None:
        """What is due before the first step. Raises: TrainingError; Stopped."""
        self._evaluation.run_due()

    def state(self) -> TrainingState:
        """All that another loop over the same data needs to continue after the last whole step, on any number of
        devices. Write it before the next step: arrays may share memory with the weights. Every process must call it."""
        arrays = self._state.arrays()
        standing = Standing(
            step=self.step,
            rows=self._context.metrics.rows,
            loss=self.history.loss,
            losses=self.history.losses,
            evaluations=self.history.evaluations,
            drifts=self.history.drifts,
            round=self._context.round.number,
            passes=self.plan.passes_after,
            at_once=self._student.most_rows,
        )
        return TrainingState(standing, arrays)

    def restore(self, state: TrainingState) -> None:
        """Continues where the loop that gave `state` stood."""
        self.history.restore(state.standing)
        self.plan.restore(state.standing)
        self._state.restore(state.arrays, self.step)

    def _kept_teacher(self) -> TeacherStates | None:
        """The teacher's hidden states, if they are needed and fit in memory."""
        student, data = self._student, self._config.data
        layers = student.middle_layers if data.hidden_weight else ()
        if not data.has_full_teacher or student.parallel.is_sharded:
            return None
        if not TeacherStates.fit(student, self._rows, layers):
            return None
        return TeacherStates(student, [self._rows[index] for index in self.plan.first_pass()], layers)

    def _steps_of_epoch(self) -> Iterator[Step]:
        """The steps that are left of the current epoch."""
        ranks, lengths = self._context.ranks, self._lengths
        most_rows = self._student.most_rows or self._config.micro_batch_size
        for groups in self.plan.steps_after(self.step):
            own = share(groups, lengths, most_rows, ranks.rank, ranks.size)
            everything = [index for group in groups for index in group]
            yield Step(
                batches=[self._batch([self._rows[index] for index in group]) for group in own.groups],
                counted=own.counted,
                responses=sum(len(self._rows[index].response_ids) for index in everything),
                tokens=sum(lengths[index] for index in everything),
                longest=max(lengths[index] for index in everything),
            )

    def _batch(self, rows: list[Trajectory]) -> Batch:
        if self._teacher is not None:
            return make_batch(rows)._replace(teacher_states_NLD=self._teacher.of(rows))
        return make_batch(rows, has_teacher=self._config.data.has_full_teacher)

    def _begin_step(self, step: Step) -> StepInFlight:
        """Gives the device the whole step; `_end_step` waits for its results."""
        begin = time.monotonic()
        self._student.model.train()
        share_of_rate = schedule(self._config.scheduler, self.step + 1, self.plan.total_steps)
        rate = self._config.optimizer.learning_rate * share_of_rate
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        losses = self._backward(step)
        norm = nn.utils.clip_grad_norm_(self.parameters, self._config.optimizer.max_grad_norm)
        self._optimizer.step()
        return StepInFlight(begin, rate, losses, norm)

    def _end_step(self, step: Step, in_flight: StepInFlight) -> None:
        """Checks and reports the results. Raises: TrainingError; the weights are then of no use."""
        number = self.step + 1
        (loss,) = self._context.ranks.sum([sum(weight * float(nats) for weight, nats in in_flight.losses)])
        norm = float(full_tensor(in_flight.norm))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise TrainingError(
                f"step {number}: loss {loss}, gradient norm {norm}; lower optimizer.learning_rate "
                f"(now {self._config.optimizer.learning_rate:g})"
            )
        if norm == 0.0 and loss > NEGLIGIBLE_KL:
            raise TrainingError(
                f"step {number}: all gradients are zero at a loss of {loss:.4f}: the adapter can't learn"
            )
        self.history.add_step(loss)
        self._state.keep_random()
        seconds = time.monotonic() - in_flight.begin
        result = StepResult(number, loss, in_flight.learning_rate, norm, seconds, step.tokens, step.longest)
        self._progress.report(result, self.history.loss)

    def _backward(self, step: Step) -> list[tuple[float, Tensor]]:
        """Computes the gradients of the mean over the step's response tokens.

        Every token has the same weight, however the step is split into batches and among processes.
        Returns: for each batch its weight in that mean, and its summed divergence in nats.
        """
        student, hidden_weight = self._student, self._config.data.hidden_weight
        self._optimizer.zero_grad(set_to_none=True)
        losses = []
        for index, batch in enumerate(step.batches):
            self._context.check_stopping()
            with nullcontext() if index == len(step.batches) - 1 else student.parallel.no_sync():
                lesson = student.lesson(batch.to(student.device), self._measure, hidden_weight)
                weight = 1.0 / step.responses if index < step.counted else 0.0
                (lesson.loss * (weight * self._loss_scale * student.parallel.size)).backward()
            losses.append((weight, lesson.divergence.detach()))
        if self._loss_scale != 1.0:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= self._loss_scale
        return losses
