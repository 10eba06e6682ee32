"""A training run, as a child process: trajectories -> checkpoints and metrics.

    python -m baker.train SPEC.json [--watch-stdin]
    python -m torch.distributed.run --standalone --nproc-per-node N -m baker.train SPEC.json     on N devices
    python -m torch.distributed.run --nnodes M ... -m baker.train SPEC.json     on each of M machines, in one folder

Order of effects: read and check the data, load the model, evaluate, train (with a checkpoint where one is due, and the
training state every so often), evaluate, judge; only then is the last checkpoint written. Progress goes to standard
output as the events of `events.py`, and nothing else does. The same spec, data and machine give the same adapter, to
the byte, however often the training was interrupted and taken up again. SIGTERM keeps the state first. Of several
processes all do the same, each with its share of a step's rows; the first one alone speaks and writes.
"""

import os

if __name__ == "__main__":
    # Ctrl-C in the terminal is for the service, which ends this process in its own time.
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    from baker.training.devices import openmp  # loads no torch, which reads what is set there

    openmp.prepare()

import argparse
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import msgspec
import torch

from baker import curves, placement
from baker.checkpoints import CheckpointWriter, is_due
from baker.errors import BakeryError, StageError, TrainingError
from baker.keeper import Keeper
from baker.loop import Loop, Stopped
from baker.metrics import Metrics, wandb_run
from baker.status import NEGLIGIBLE_KL
from baker.training import events
from baker.training import state as training_state
from baker.training.data.batches import cut
from baker.training.devices import openmp
from baker.training.devices.ranks import (
    ALONE,
    Ranks,
    is_alone,
    is_first,
    joined,
)
from baker.training.events import Emit
from baker.training.spec import TrainSpec
from baker.trajectories.files import load_trajectory
from baker.types import Trajectory

FAR_OFF = 2.0
"""A held-out divergence so many times as large is no chance, however few the steps."""
PEER_SECONDS = 3.0
"""An error may be the echo of another process's end. Then torchrun, which looks every 0.1 s, sends SIGTERM first."""
STEPS_TO_JUDGE = 12
"""With fewer steps a loss that stands still is chance as likely as a fault."""


def main(arguments: list[str], is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Returns the exit code: 0 after a `Done` event, 1 after a `Failed` one. Stopped, it ends by SIGTERM itself."""
    parser = argparse.ArgumentParser(prog="python -m baker.train", description="Train one bake as SPEC says.")
    parser.add_argument("spec", type=Path, help="JSON file of a TrainSpec")
    parser.add_argument("--watch-stdin", action="store_true", help="end at the end of standard input")
    options = parser.parse_args(arguments)
    if options.watch_stdin:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    emit = _take_stdout()
    try:
        with joined() as ranks, openmp.considerate():
            train(_read_spec(options.spec), emit if ranks.is_first else _ignore, is_stopping, ranks)
    except Stopped:
        _end_by_sigterm()
    except BakeryError as error:
        if is_first():  # it came to all of them
            emit(events.Failed(error.message, error.code))
        return 1
    except torch.OutOfMemoryError as error:
        traceback.print_exc()
        message = f"the device's memory is full; lower micro_batch_size or data.max_length ({error})"
        emit(events.Failed(message, TrainingError.code))
        return 1
    except OSError as error:
        traceback.print_exc()
        if is_first():
            message = f"the disk refused to work ({error.strerror}): mend that and run it again"
            emit(events.Failed(message, StageError.code))
        return 1
    except Exception as error:
        traceback.print_exc()
        if not is_alone() and _is_told(is_stopping, PEER_SECONDS):
            _end_by_sigterm()
        emit(events.Failed(f"training stopped on {type(error).__name__}: {error}", BakeryError.code))
        return 1
    return 0


def train(spec: TrainSpec, emit: Emit, is_stopping: Callable[[], bool] = lambda: False, ranks: Ranks = ALONE) -> None:
    """Args: is_stopping: asked often; once it says so, the state is kept and the training ends.

    Raises: TrainingError if the data does not fit the model or the loss does not fall; StageError for files that
    can't be read; AdapterError for the parent's or the wanted adapter; OSError if the last checkpoint can't be
    written; Stopped.
    """
    begin = time.monotonic()
    config = spec.config
    if spec.threads is not None:
        torch.set_num_threads(max(1, spec.threads // ranks.here))
    torch.manual_seed(config.seed)
    state = None if spec.resume is None else training_state.read(Path(spec.resume))
    ranks.by_first(lambda: _clear(spec, after=0 if state is None else state.standing.step))
    rows, held_out = _read_data(spec, emit)
    neutral = [load_trajectory(Path(name)) for name in spec.neutral]
    pinned = [*chain.from_iterable(held_out.values())] or rows
    student, attached = placement.load(spec, rows, ranks, emit, None if state is None else state.standing.at_once)
    _check_vocabulary([*rows, *pinned, *neutral], student.vocabulary)
    placement.compile_if_worth(spec, student, rows, emit)
    with _metrics(spec, 0 if state is None else state.standing.rows, ranks, emit) as metrics:
        has_parent = spec.parent_adapter is not None
        loop = Loop(
            student,
            config,
            rows,
            held_out,
            metrics,
            emit,
            is_stopping,
            neutral,
            has_parent=has_parent,
            part=spec.round,
            ranks=ranks,
        )
        writer = CheckpointWriter(attached, student, Path(spec.output), spec.base_model_name, pinned, ranks)
        held_out_rows = sum(map(len, held_out.values()))
        emit(events.Started(loop.total_steps, len(rows), held_out_rows, sum(p.numel() for p in loop.parameters)))
        if state is not None:
            loop.restore(state)
            emit(events.Resumed(loop.step, loop.loss))
            for saved in writer.written():
                emit(saved)
        _run(loop, spec, writer, Keeper(spec, loop, metrics, emit, ranks), emit)
    if ranks.is_first and spec.draws_curves and (warning := curves.draw(Path(spec.metrics), spec.name)):
        emit(events.Warned(warning))
    emit(events.Done(loop.loss, time.monotonic() - begin))


def _run(loop: Loop, spec: TrainSpec, writer: CheckpointWriter, keeper: Keeper, emit: Emit) -> None:
    """Train to the end of the round, and write what is to stay."""
    configs, first_step = spec.config.checkpoint, spec.round.first_step
    try:
        for step in loop.steps():
            if step < loop.last_step and is_due(configs, step, loop.steps_per_epoch, first_step):
                _write_on_the_way(writer, keeper, step, emit)
            keeper.keep_if_due()
    except Stopped:
        keeper.keep()
        raise
    # The loss on other answers has another height, so those of rounds are not compared with the first ones.
    warning = judge(loop.losses[: spec.round.taught_steps or None], loop.evaluations)
    if not loop.is_last_round:
        _hand_over(loop.last_step, writer, keeper, emit)
        return
    if warning:
        emit(events.Warned(warning))
    try:
        emit(writer.write(loop.total_steps, is_last=True))
    except OSError:
        keeper.keep()  # what was trained need not be trained again
        raise


def _write_on_the_way(writer: CheckpointWriter, keeper: Keeper, step: int, emit: Emit) -> None:
    """A checkpoint that a state is not behind of: who goes on from an older one would write another under its name."""
    try:
        saved = writer.write(step)
    except OSError as error:
        emit(events.Warned(f"checkpoint {step} can't be written ({error.strerror}): it is left out"))
        return
    if keeper.keep():
        emit(saved)
    else:
        writer.remove(saved)
        emit(events.Warned(f"checkpoint {step} is left out: the training state beside it can't be written"))


def _hand_over(step: int, writer: CheckpointWriter, keeper: Keeper, emit: Emit) -> None:
    """Write what the next round needs: the checkpoint that answers, and the state that it goes on from.

    Raises: OSError; StageError if the state can't be written.
    """
    if step in (saved.step for saved in writer.written()):
        return  # and told of, since a process before wrote it, and the state with it
    saved = writer.write(step)
    if not keeper.keep():
        raise StageError("the training state can't be written, which the next round goes on from: mend that")
    emit(saved)


def _metrics(spec: TrainSpec, rows_before: int, ranks: Ranks, emit: Emit) -> Metrics:
    if not ranks.is_first:
        return Metrics(None)
    run, warning = wandb_run(
        spec.config, is_allowed=spec.allows_wandb, name=spec.name, folder=Path(spec.metrics).parent
    )
    if warning:
        emit(events.Warned(warning))
    return Metrics(Path(spec.metrics), run, rows_before, lambda message: emit(events.Warned(message)))


def judge(losses: Sequence[float], evaluations: Sequence[events.Evaluated]) -> str | None:
    """A warning if there was nothing to learn or nothing was learnt, None if the training did its work.

    A target that teacher and student agreed on from the start (its prompts may be the same, to pin behaviour) says
    nothing about that: its divergence can only grow.

    Raises: TrainingError if neither the loss nor the held-out divergence of any target fell, or the latter grew much.
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
            f"the held-out divergence did not fall, it grew {worst:.1f} times: lower optimizer.learning_rate"
        )
    if len(losses) >= STEPS_TO_JUDGE and last >= first and not has_improved:
        raise TrainingError(
            f"the loss did not fall: {first:.4f} nats per token in the first {quarter} steps, {last:.4f} in the last; "
            f"try a lower optimizer.learning_rate"
        )
    if ends and not has_improved:
        return f"the held-out divergence did not fall (it is {worst:.2f} times as large): more questions may help"
    return None


def _clear(spec: TrainSpec, after: int) -> None:
    """Remove what a run that was killed left: nobody was told of checkpoints after that step, the last it kept."""
    for left in Path(spec.output).glob("*"):
        if not left.name.isdigit() or int(left.name) > after:
            shutil.rmtree(left)
    if after == 0:
        Path(spec.metrics).unlink(missing_ok=True)


class _Data(NamedTuple):
    rows: list[Trajectory]
    held_out: dict[str, list[Trajectory]]
    """Of each target that has some."""


def _read_data(spec: TrainSpec, emit: Emit) -> _Data:
    """The trajectories, cut to length; what was cut is reported. A file that appears twice is read once."""
    train = spec.round.train or spec.train
    names = dict.fromkeys(chain(train, *spec.held_out.values()))
    files = {name: load_trajectory(Path(name)) for name in names}
    _check_widths(files, emit)
    limit = spec.config.data.max_length
    train_cut = cut([files[name] for name in train], limit)
    held_out_cuts = {target: cut([files[name] for name in own], limit) for target, own in spec.held_out.items()}
    cuts = [train_cut, *held_out_cuts.values()]
    if shortened := sum(made.shortened for made in cuts):
        emit(events.Warned(f"{shortened} responses were cut to data.max_length ({limit} tokens)"))
    if dropped := sum(made.dropped for made in cuts):
        emit(events.Warned(f"{dropped} trajectories have no response, or no room for one, and were left out"))
    if not train_cut.rows:
        raise TrainingError(f"there is nothing to train on: {len(train)} trajectories, none with a response")
    held_out = {target: made.rows for target, made in held_out_cuts.items() if made.rows}
    if not held_out:
        emit(events.Warned("nothing is held out, so there is no eval_kl: see data.train_eval_split"))
    return _Data(train_cut.rows, held_out)


def _check_widths(files: Mapping[str, Trajectory], emit: Emit) -> None:
    widths = {row.top_ids_TK.shape[1] for row in files.values() if len(row.response_ids)}
    if 0 in widths:
        raise TrainingError("some trajectories hold no teacher distribution: roll out with top log-probabilities")
    if len(widths) > 1:
        emit(events.Warned(f"trajectories keep {min(widths)} to {max(widths)} top tokens: each batch uses its fewest"))


def _check_vocabulary(rows: list[Trajectory], vocabulary: int) -> None:
    greatest = max(int(ids.max()) for row in rows for ids in (row.student_ids, row.response_ids, row.top_ids_TK))
    least = min(int(ids.min()) for row in rows for ids in (row.student_ids, row.response_ids, row.top_ids_TK))
    if least < 0 or greatest >= vocabulary:
        raise TrainingError(
            f"trajectories hold token ids from {least} to {greatest}, the base model knows 0 to {vocabulary - 1}: "
            f"they come from another model"
        )


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


def _ignore(event: events.TrainEvent) -> None:
    """The first process says it."""


def _is_told(is_stopping: Callable[[], bool], seconds: float) -> bool:
    """Whether SIGTERM comes within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not is_stopping():
        time.sleep(0.05)
    return is_stopping()


def _end_by_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def _catch(number: signal.Signals) -> Callable[[], bool]:
    """Returns: whether the signal came since."""
    came = threading.Event()
    signal.signal(number, lambda *_: came.set())
    return came.is_set


def _end_with_parent() -> None:
    """Standard input ends when the process that started this one is gone, even by SIGKILL."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], _catch(signal.SIGTERM)))
