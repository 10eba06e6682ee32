"""The training process: its signals, its standard output and its exit codes. The training itself is in `train.py`.

    python -m baker.training.run SPEC.json [--watch-stdin]
    python -m torch.distributed.run --standalone --nproc-per-node N -m baker.training.run SPEC.json     on N devices
    python -m torch.distributed.run --nnodes M ... -m baker.training.run SPEC.json    on each of M machines, one folder

Standard output carries only the events of `training/events.py`. After SIGTERM the process stores its training state and
ends. If there are several processes, only the first one reports and writes.
"""

import os

if __name__ == "__main__":
    # Ctrl-C in the terminal must only reach the service, which then ends this process.
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    from baker.training.devices import openmp  # does not import torch, which reads what `set_spin_count` sets

    openmp.set_spin_count()

import argparse
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from baker.errors import BakeryError, StageError, TrainingError, disk_error
from baker.training import events
from baker.training.devices import openmp
from baker.training.devices.ranks import is_alone, is_first, joined
from baker.training.events import Emit
from baker.training.run.run_context import Stopped
from baker.training.run.train import train
from baker.training.spec import TrainSpec

PEER_SECONDS = 3.0
"""Time to wait for SIGTERM before an error is reported: it may follow from another process's end, which torchrun, with
a check every 0.1 s, answers with SIGTERM."""


def main(arguments: list[str], is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Returns: exit code, 0 after a `Done` event, 1 after a `Failed` one. A stopped process ends by SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m baker.training.run", description="Train one bake as SPEC says.")
    parser.add_argument("spec", type=Path, help="JSON file of a TrainSpec")
    parser.add_argument("--watch-stdin", action="store_true", help="end at the end of standard input")
    options = parser.parse_args(arguments)
    if options.watch_stdin:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    emit = _take_stdout()
    try:
        with joined() as ranks, openmp.sleep_when_contended():
            train(_read_spec(options.spec), emit if ranks.is_first else _emit_nothing, is_stopping, ranks)
    except Stopped:
        _end_by_sigterm()
    except BakeryError as error:
        if is_first():  # all processes raise it
            emit(events.Failed(error.message, error.code))
        return 1
    except torch.OutOfMemoryError as error:
        traceback.print_exc()
        message = f"the device's memory is full: lower micro_batch_size or data.max_length ({error})"
        emit(events.Failed(message, TrainingError.code))
        return 1
    except OSError as error:
        traceback.print_exc()
        if is_first():
            failure = disk_error(error)
            emit(events.Failed(failure.message, failure.code))
        return 1
    except Exception as error:
        traceback.print_exc()
        if not is_alone() and _is_stopped_within(PEER_SECONDS, is_stopping):
            _end_by_sigterm()
        emit(events.Failed(f"training stopped on {type(error).__name__}: {error}", BakeryError.code))
        return 1
    return 0


def _read_spec(path: Path) -> TrainSpec:
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainSpec)
    except OSError as error:
        raise StageError(f"{path} can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StageError(f"{path} is not a valid TrainSpec: {error}") from error


def _take_stdout() -> Emit:
    """Reserve standard output for events: from now on, output of libraries (C libraries too) goes to standard error."""
    descriptor = os.dup(1)
    os.set_inheritable(descriptor, False)
    os.dup2(2, 1)

    def emit(event: events.TrainEvent) -> None:
        line = events.encode(event)
        while line:
            line = line[os.write(descriptor, line) :]

    return emit


def _emit_nothing(event: events.TrainEvent) -> None:
    """Used by all processes but the first, which reports for all."""


def _is_stopped_within(seconds: float, is_stopping: Callable[[], bool]) -> bool:
    """Wait for SIGTERM. Returns: whether it came in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not is_stopping():
        time.sleep(0.05)
    return is_stopping()


def _end_by_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def _catch(number: signal.Signals) -> Callable[[], bool]:
    """Returns: a function that says whether the signal has come since."""
    has_come = threading.Event()
    signal.signal(number, lambda *_: has_come.set())
    return has_come.is_set


def _end_with_parent() -> None:
    """Standard input closes when the process that started this one ends, even by SIGKILL."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], _catch(signal.SIGTERM)))
