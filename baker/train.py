"""The training loop, run as a child process: trajectories -> one checkpoint and its metrics.

    python -m baker.train SPEC.json [--watch-stdin]

Order of effects: read and check the data, load the model, evaluate, train, evaluate, judge; only then is the
checkpoint written. Progress goes to standard output as the events of `events.py`, and nothing else does. The same
spec, data and machine give the same adapter, to the byte.
"""

import os

if __name__ == "__main__":
    # Ctrl-C in the terminal is for the service, which ends this process in its own time.
    os.setpgrp()
    # Threads that wait shall sleep: where serving needs the same cores, OpenMP's habit of spinning made a step
    # 6 times slower (21 instead of 131 tokens/s on 2 cores). Read when torch loads OpenMP, so it stands before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import math
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import msgspec
import torch
from torch import nn

from baker import artifacts, events, lora
from baker.adapter_files import Parity, PinnedSequence
from baker.batches import Batch, cut, length_of, make_batch, plan_epoch, shorten
from baker.config import BakeConfig, SchedulerConfig, TrainSpec, epochs_for
from baker.errors import BakeryError, StageError, TrainingError
from baker.student import Student, load_base, pick_device
from baker.types import Loss, Trajectory

NEGLIGIBLE_KL = 2e-3
"""Nats per token: the rounding of engine (bfloat16) and trainer (float32) alone made 1.2e-3 on SmolLM2-135M."""
STEPS_TO_JUDGE = 12
"""With fewer steps a loss that stands still is chance as likely as a fault."""
EVAL_BATCH_SIZE = 8
PINNED_SEQUENCES = 4
PINNED_TOKENS = 24

Emit = Callable[[events.TrainEvent], None]


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0 after a `Done` event, 1 after a `Failed` one."""
    parser = argparse.ArgumentParser(prog="python -m baker.train", description="Train one bake as SPEC says.")
    parser.add_argument("spec", type=Path, help="JSON file of a TrainSpec")
    parser.add_argument("--watch-stdin", action="store_true", help="end at the end of standard input")
    options = parser.parse_args(arguments)
    if options.watch_stdin:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    emit = _take_stdout()
    try:
        train(_read_spec(options.spec), emit)
    except BakeryError as error:
        emit(events.Failed(error.message, error.code))
        return 1
    except torch.OutOfMemoryError as error:
        traceback.print_exc()
        message = f"the device's memory is full; lower micro_batch_size or data.max_length ({error})"
        emit(events.Failed(message, TrainingError.code))
        return 1
    except Exception as error:
        traceback.print_exc()
        emit(events.Failed(f"training stopped on {type(error).__name__}: {error}", BakeryError.code))
        return 1
    return 0


def train(spec: TrainSpec, emit: Emit) -> None:
    """Raises: TrainingError if the data does not fit the model or the loss does not fall; StageError for files that
    can't be read; AdapterError for the parent's or the wanted adapter."""
    begin = time.monotonic()
    config = spec.config
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    torch.manual_seed(config.seed)
    _clear(Path(spec.output))
    rows, held_out = _read_data(spec, emit)
    base = load_base(Path(spec.base_model), pick_device())
    student = Student(base)
    _check_vocabulary([*rows, *held_out], student.vocabulary)
    wanted = config.model.baked_adapter_config
    attached = lora.attach(
        base,
        rank=wanted.r,
        alpha=wanted.lora_alpha,
        dropout=wanted.lora_dropout,
        target_modules=wanted.target_modules,
        parent=None if spec.parent_adapter is None else Path(spec.parent_adapter),
    )
    for message in attached.warnings:
        emit(events.Warned(message))
    loop = Loop(student, config, rows, held_out, Path(spec.metrics), emit)
    emit(events.Started(loop.total_steps, len(rows), len(held_out), sum(p.numel() for p in loop.parameters)))
    loop.run()
    if warning := judge(loop.losses, loop.evaluations):
        emit(events.Warned(warning))
    folder = Path(spec.output) / str(loop.total_steps)
    with artifacts.new_folder(folder) as temporary:
        lora.save_adapter(attached.model, temporary, spec.base_model_name)
        artifacts.write_json(temporary / artifacts.PARITY, _parity(student, attached, held_out or rows))
        sha256 = artifacts.content_hash(temporary)
    emit(events.Saved(loop.total_steps, str(folder), sha256))
    emit(events.Done(loop.summary(), time.monotonic() - begin))


class Loop:
    """Batches -> optimizer steps, with events and metrics on the way."""

    def __init__(
        self,
        student: Student,
        config: BakeConfig,
        rows: list[Trajectory],
        held_out: list[Trajectory],
        metrics: Path,
        emit: Emit,
    ) -> None:
        self._student, self._config, self._rows, self._metrics, self._emit = student, config, rows, metrics, emit
        self._lengths = [length_of(row) for row in rows]
        plan = plan_epoch([length_of(row) for row in held_out], EVAL_BATCH_SIZE, seed=0)
        self._held_out = [make_batch([held_out[index] for index in group]) for group in plan]
        self.steps_per_epoch = -(-len(rows) // (config.micro_batch_size * config.gradient_accumulation_steps))
        self._epochs = config.epochs or epochs_for(len(rows))
        self.total_steps = self.steps_per_epoch * self._epochs
        self.parameters = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
        optimizer = config.optimizer
        self._optimizer = torch.optim.AdamW(
            self.parameters,
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            weight_decay=optimizer.weight_decay,
            fused=True,
        )
        self.losses: list[float] = []
        """Of each step, in nats per response token."""
        self.evaluations: list[float] = []
        """eval_kl before, during and after; empty without a held-out part."""

    def run(self) -> None:
        """Raises: TrainingError if the loss is not finite or there is nothing to learn from."""
        self._evaluate(0)
        step = 0
        for epoch in range(self._epochs):
            for batches in self._steps_of(epoch):
                step += 1
                self._step(step, batches)
                interval = self._config.eval_interval
                if step == self.total_steps or (interval and step % interval == 0):
                    self._evaluate(step)

    def summary(self) -> Loss:
        before, after = (self.evaluations[0], self.evaluations[-1]) if self.evaluations else (None, None)
        return Loss(
            latest_loss=self.losses[-1],
            final_loss=self.losses[-1],
            min_loss=min(self.losses),
            max_loss=max(self.losses),
            eval_kl_before=before,
            eval_kl=after,
            recovered=1.0 - after / before if before and after is not None else None,
        )

    def _steps_of(self, epoch: int) -> Iterator[list[Batch]]:
        """The batches of each optimizer step."""
        config = self._config
        groups = plan_epoch(self._lengths, config.micro_batch_size, seed=config.seed * 1_000_003 + epoch)
        for at in range(0, len(groups), config.gradient_accumulation_steps):
            some = groups[at : at + config.gradient_accumulation_steps]
            yield [make_batch([self._rows[index] for index in group]) for group in some]

    def _step(self, step: int, batches: list[Batch]) -> None:
        begin = time.monotonic()
        self._student.model.train()
        rate = self._config.optimizer.learning_rate * schedule(self._config.scheduler, step, self.total_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        # Every response token of the step weighs the same, however the step is cut into batches.
        count = sum(len(batch.response_ids_N) for batch in batches)
        loss = 0.0
        for batch in batches:
            part = self._student.kl(batch.to(self._student.device)) / count
            part.backward()
            loss += float(part.detach())
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self._config.optimizer.max_grad_norm))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise TrainingError(
                f"step {step}: loss {loss}, gradient norm {norm}; lower optimizer.learning_rate "
                f"(now {self._config.optimizer.learning_rate:g})"
            )
        if norm == 0.0 and loss > NEGLIGIBLE_KL:
            raise TrainingError(f"step {step}: all gradients are zero at a loss of {loss:.4f}: the adapter can't learn")
        self._optimizer.step()
        self.losses.append(loss)
        self._report(step, rate, norm, batches, time.monotonic() - begin)

    def _report(self, step: int, rate: float, norm: float, batches: list[Batch], seconds: float) -> None:
        tokens = sum(batch.tokens for batch in batches)
        epoch = round(step / self.steps_per_epoch, 4)
        event = events.Stepped(step, self.total_steps, epoch, self.losses[-1], rate, norm, tokens / max(seconds, 1e-9))
        self._emit(event)
        if step % self._config.train_log_iter_interval == 0 or step == self.total_steps:
            row = {
                "iter": step,
                "epoch": epoch,
                "loss": event.loss,
                "lr": rate,
                "grad_norm": norm,
                "tokens_per_second": round(event.tokens_per_second, 1),
                "seqlen": max(batch.input_ids_BT.shape[1] for batch in batches) + 1,
                "iter_time": round(seconds, 4),
            }
            artifacts.append_line(self._metrics, row)

    def _evaluate(self, step: int) -> None:
        if not self._held_out:
            return
        kl = self._student.mean_kl(self._held_out)
        if not math.isfinite(kl):
            raise TrainingError(f"step {step}: the held-out divergence is {kl}; lower optimizer.learning_rate")
        self.evaluations.append(kl)
        self._emit(events.Evaluated(step, kl))
        epoch = round(step / self.steps_per_epoch, 4)
        artifacts.append_line(self._metrics, {"iter": step, "epoch": epoch, "eval_loss": kl})


def schedule(config: SchedulerConfig, step: int, total_steps: int) -> float:
    """The share of the learning rate at `step` (1 is the first): a linear warmup, then as `config.type` says."""
    warmup = min(config.warmup_steps, total_steps - 1)
    if step <= warmup:
        return step / (warmup + 1)
    done = (step - warmup - 1) / (total_steps - warmup)
    match config.type:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        case "linear":
            return 1.0 - done


def judge(losses: list[float], evaluations: list[float]) -> str | None:
    """A warning if there was nothing to learn, None if the training did its work.

    Raises: TrainingError if neither the loss nor the held-out divergence fell.
    """
    quarter = max(1, len(losses) // 4)
    first, last = fmean(losses[:quarter]), fmean(losses[-quarter:])
    start = evaluations[0] if evaluations else first
    if start < NEGLIGIBLE_KL:
        return f"teacher and student agreed from the start (divergence {start:.2g} nats per token): little to learn"
    has_improved = len(evaluations) > 1 and evaluations[-1] < evaluations[0]
    if len(losses) >= STEPS_TO_JUDGE and last >= first and not has_improved:
        raise TrainingError(
            f"the loss did not fall: {first:.4f} nats per token in the first {quarter} steps, {last:.4f} in the last; "
            f"try a lower optimizer.learning_rate"
        )
    return None


def _clear(output: Path) -> None:
    """Remove what a run that was killed left in `output`: nobody was told of it."""
    for left in [*output.glob("[0-9]*"), *output.glob(".*.tmp")]:
        shutil.rmtree(left)


class _Data(NamedTuple):
    rows: list[Trajectory]
    held_out: list[Trajectory]


def _read_data(spec: TrainSpec, emit: Emit) -> _Data:
    """The trajectories, cut to length; what was cut is reported. A file that appears twice is read once."""
    files = {name: artifacts.load_trajectory(Path(name)) for name in dict.fromkeys([*spec.train, *spec.held_out])}
    widths = {row.top_ids_TK.shape[1] for row in files.values() if len(row.response_ids)}
    if 0 in widths:
        raise TrainingError("some trajectories hold no teacher distribution: roll out with top log-probabilities")
    if len(widths) > 1:
        emit(events.Warned(f"trajectories keep {min(widths)} to {max(widths)} top tokens: each batch uses its fewest"))
    limit = spec.config.data.max_length
    train_cut = cut([files[name] for name in spec.train], limit)
    held_out_cut = cut([files[name] for name in spec.held_out], limit)
    if shortened := train_cut.shortened + held_out_cut.shortened:
        emit(events.Warned(f"{shortened} responses were cut to data.max_length ({limit} tokens)"))
    if dropped := train_cut.dropped + held_out_cut.dropped:
        emit(events.Warned(f"{dropped} trajectories have no response, or no room for one, and were left out"))
    if not train_cut.rows:
        raise TrainingError(f"there is nothing to train on: {len(spec.train)} trajectories, none with a response")
    if not held_out_cut.rows:
        emit(events.Warned("nothing is held out, so there is no eval_kl: see data.train_eval_split"))
    return _Data(train_cut.rows, held_out_cut.rows)


def _check_vocabulary(rows: list[Trajectory], vocabulary: int) -> None:
    greatest = max(int(ids.max()) for row in rows for ids in (row.student_ids, row.response_ids, row.top_ids_TK))
    least = min(int(ids.min()) for row in rows for ids in (row.student_ids, row.response_ids, row.top_ids_TK))
    if least < 0 or greatest >= vocabulary:
        raise TrainingError(
            f"trajectories hold token ids from {least} to {greatest}, the base model knows 0 to {vocabulary - 1}: "
            f"they come from another model"
        )


def _parity(student: Student, attached: lora.Attached, rows: list[Trajectory]) -> Parity:
    """A few short sequences of different stimuli, as the trained model and the base see them."""
    by_stimulus = {row.stimulus: row for row in sorted(rows, key=length_of, reverse=True)}
    chosen = sorted(by_stimulus.values(), key=length_of)[:PINNED_SEQUENCES]
    pinned = []
    for row in [shorten(row, PINNED_TOKENS) for row in chosen]:
        batch = make_batch([row])
        logprobs = student.response_logprobs(batch)
        with attached.model.disable_adapter():
            base_logprobs = student.response_logprobs(batch)
        pinned.append(PinnedSequence(row.student_ids.tolist(), row.response_ids.tolist(), logprobs, base_logprobs))
    return Parity(pinned, str(student.model.dtype).removeprefix("torch."))


def _read_spec(path: Path) -> TrainSpec:
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainSpec)
    except OSError as error:
        raise StageError(f"{path} can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StageError(f"{path} is no specification of a training: {error}") from error


def _take_stdout() -> Emit:
    """Keep standard output for events alone: what libraries print, in C too, goes to standard error from here on."""
    descriptor = os.dup(1)
    os.set_inheritable(descriptor, False)
    os.dup2(2, 1)

    def emit(event: events.TrainEvent) -> None:
        line = events.encode(event)
        while line:
            line = line[os.write(descriptor, line) :]

    return emit


def _end_with_parent() -> None:
    """Standard input ends when the process that started this one is gone, even by SIGKILL."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
