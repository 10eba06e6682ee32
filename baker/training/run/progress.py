"""Reports each optimizer step: the events `LossUpdated` and `Stepped`, and a metrics row where one is due."""

import time
from typing import NamedTuple

import torch

from baker.free_memory import peak_bytes
from baker.status import Loss
from baker.training import events
from baker.training.run.run_context import RunContext
from baker.training.run.step_plan import StepPlan


class StepResult(NamedTuple):
    """A finished optimizer step, over all processes."""

    step: int
    """Its number, from 1."""
    loss: float
    """Mean divergence, in nats per response token."""
    learning_rate: float
    gradient_norm: float
    """Gradient norm before clipping."""
    seconds: float
    """Time since the step began."""
    tokens: int
    """Number of tokens of contexts and responses."""
    longest: int
    """Number of tokens of the longest row."""


class ProgressReporter:
    def __init__(self, plan: StepPlan, context: RunContext, device: torch.device) -> None:
        """Args: device: where the model computes."""
        self._plan, self._context, self._device = plan, context, device
        self.start_clock(0)

    def start_clock(self, step: int) -> None:
        """Starts the clock of `eta_seconds`. Args: step: number of steps that were done before."""
        self._begin, self._first = time.monotonic(), step

    def report(self, result: StepResult, summary: Loss) -> None:
        """Args: summary: the loss up to this step."""
        config, step = self._context.config, result.step
        seconds_per_step = (time.monotonic() - self._begin) / (step - self._first)
        is_on_gpu = self._device.type == "cuda"
        event = events.Stepped(
            step=step,
            total_steps=self._plan.total_steps,
            epoch=self._plan.epoch_at(step),
            loss=result.loss,
            lr=result.learning_rate,
            grad_norm=result.gradient_norm,
            tokens_per_second=round(result.tokens / max(result.seconds, 1e-9), 1),
            eta_seconds=round(seconds_per_step * (self._plan.total_steps - step), 1),
            memory_bytes=peak_bytes(),
            device_memory_bytes=torch.cuda.max_memory_allocated(self._device) if is_on_gpu else None,
            round=self._context.round.number,
            rounds=config.data.on_policy.rounds,
        )
        self._context.emit(events.LossUpdated(summary))
        self._context.emit(event)
        if step % config.train_log_iter_interval == 0 or step == self._plan.last_step:
            self._add_row(event, result)

    def _add_row(self, event: events.Stepped, result: StepResult) -> None:
        row = {
            "iter": event.step,
            "epoch": event.epoch,
            "loss": event.loss,
            "lr": event.lr,
            "grad_norm": event.grad_norm,
            "tokens_per_second": event.tokens_per_second,
            "seqlen": result.longest,
            "iter_time": round(result.seconds, 4),
            "eta_seconds": event.eta_seconds,
            "memory_bytes": event.memory_bytes,
        }
        if event.device_memory_bytes is not None:
            row["device_memory_bytes"] = event.device_memory_bytes
        self._context.metrics.add_step(row | self._context.round_field)
