"""A training run: trajectories -> checkpoints and metrics.

Order of effects: read and check the data, load the model, evaluate, train (writing checkpoints and training states when
they are due), evaluate, judge; only then is the last checkpoint written. The same spec, data and machine give the same
adapter, to the byte, however often the training was interrupted and resumed. If there are several processes, each runs
this code on its share of a step's rows.
"""

import shutil
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import torch

from baker.errors import StageError, TrainingError
from baker.training import events
from baker.training import state as training_state
from baker.training.devices.ranks import ALONE, Ranks
from baker.training.events import Emit
from baker.training.run import curves
from baker.training.run.checkpoint_writer import CheckpointWriter, is_due
from baker.training.run.loop import Loop
from baker.training.run.metrics import Metrics, wandb_run
from baker.training.run.run_context import RunContext, Stopped
from baker.training.run.state_writer import StateWriter
from baker.training.run.verdict import judge
from baker.training.setup.builder import build_student, compile_if_worthwhile
from baker.training.setup.rows import check_vocabulary, read_data
from baker.training.spec import TrainSpec
from baker.trajectories.files import load_trajectory


def train(spec: TrainSpec, emit: Emit, is_stopping: Callable[[], bool] = lambda: False, ranks: Ranks = ALONE) -> None:
    """Args: is_stopping: called often; once it returns true, the state is stored and the training ends.

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
    rows, held_out = read_data(spec, emit)
    neutral = [load_trajectory(Path(name)) for name in spec.neutral]
    pinned = [*chain.from_iterable(held_out.values())] or rows
    student, attached = build_student(spec, rows, ranks, emit, None if state is None else state.standing.at_once)
    check_vocabulary([*rows, *pinned, *neutral], student.vocabulary)
    compile_if_worthwhile(spec, student, rows, emit)
    with _metrics(spec, 0 if state is None else state.standing.rows, ranks, emit) as metrics:
        has_parent = spec.parent_adapter is not None
        context = RunContext(config, metrics, emit, ranks, is_stopping, spec.round, has_parent)
        loop = Loop(student, rows, context, held_out, neutral)
        writer = CheckpointWriter(attached, student, Path(spec.output), spec.base_model_name, pinned, ranks)
        held_out_rows = sum(map(len, held_out.values()))
        emit(events.Started(loop.plan.total_steps, len(rows), held_out_rows, sum(p.numel() for p in loop.parameters)))
        if state is not None:
            loop.restore(state)
            emit(events.LossUpdated(loop.history.loss))
            emit(events.Resumed(loop.step))
            for saved in writer.written():
                emit(saved)
        try:
            _run(loop, spec, writer, StateWriter(spec, loop, context), emit)
        except TrainingError as error:
            _draw_curves(spec, ranks, emit, failure=str(error))
            raise
    _draw_curves(spec, ranks, emit)
    emit(events.Done(loop.history.loss, time.monotonic() - begin))


def _run(loop: Loop, spec: TrainSpec, writer: CheckpointWriter, state_writer: StateWriter, emit: Emit) -> None:
    """Train to the end of the round, unless the spec says not to; write checkpoints and states."""
    configs, first_step = spec.config.checkpoint, spec.round.first_step
    if spec.is_untrained:
        loop.measure()
        emit(writer.write(0, is_last=True))
        return
    try:
        for step in loop.steps():
            if step < loop.last_step and is_due(configs, step, loop.plan.steps_per_epoch, first_step):
                _write_on_the_way(writer, state_writer, step, emit)
            state_writer.keep_if_due()
    except Stopped:
        state_writer.keep()
        raise
    # Losses on the rounds' answers are on another scale, so they are not compared with the first ones.
    taught = loop.history.losses[: spec.round.taught_steps or None]
    # A merge starts near its end, so that its loss need not fall: its own gate judges it.
    warning = None if spec.config.merge.is_set else judge(taught, loop.history.evaluations)
    if not loop.plan.is_last_round:
        _hand_over(loop.last_step, writer, state_writer, emit)
        return
    if warning:
        emit(events.Warned(warning))
    try:
        emit(writer.write(loop.plan.total_steps, is_last=True))
    except OSError:
        state_writer.keep()  # so that the training is not repeated
        raise


def _write_on_the_way(writer: CheckpointWriter, state_writer: StateWriter, step: int, emit: Emit) -> None:
    """Write a checkpoint, and report it only once a state of its step is stored too: a training that resumes from an
    older state would overwrite it with other weights."""
    try:
        saved = writer.write(step)
    except OSError as error:
        emit(events.Warned(f"checkpoint {step} is left out: it can't be written ({error.strerror})"))
        return
    if state_writer.keep():
        emit(saved)
    else:
        writer.remove(saved)
        emit(events.Warned(f"checkpoint {step} is left out: the training state beside it can't be written"))


def _hand_over(step: int, writer: CheckpointWriter, state_writer: StateWriter, emit: Emit) -> None:
    """Write what the next round needs: the checkpoint that gives its answers, and the state that it continues from.

    Raises: OSError; StageError if the state can't be written.
    """
    if step in (saved.step for saved in writer.written()):
        return  # an earlier process wrote both, and `train` has reported the checkpoint
    saved = writer.write(step)
    if not state_writer.keep():
        raise StageError(
            "the training state can't be written, and the next on-policy round needs it: free some space, then run the "
            "bake again"
        )
    emit(saved)


def _draw_curves(spec: TrainSpec, ranks: Ranks, emit: Emit, failure: str | None = None) -> None:
    if ranks.is_first and spec.draws_curves and (warning := curves.draw(Path(spec.metrics), spec.name, failure)):
        emit(events.Warned(warning))


def _metrics(spec: TrainSpec, rows_before: int, ranks: Ranks, emit: Emit) -> Metrics:
    if not ranks.is_first:
        return Metrics(None)
    run, warning = wandb_run(
        spec.config, is_allowed=spec.allows_wandb, name=spec.name, folder=Path(spec.metrics).parent
    )
    if warning:
        emit(events.Warned(warning))
    return Metrics(Path(spec.metrics), run, rows_before, lambda message: emit(events.Warned(message)))


def _clear(spec: TrainSpec, after: int) -> None:
    """Remove what a killed run left: it has reported no checkpoint after this step, that of its last state; 0: none."""
    for folder in Path(spec.output).glob("*"):
        if after == 0 or not folder.name.isdigit() or int(folder.name) > after:
            shutil.rmtree(folder)
    if after == 0:
        Path(spec.metrics).unlink(missing_ok=True)
