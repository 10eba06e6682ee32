"""The training process: its signals, its standard output, and its exit codes. What it does is in `train.py`.

    python -m baker.training.run SPEC.json [--watch-stdin]
    python -m torch.distributed.run --standalone --nproc-per-node N -m baker.training.run SPEC.json     on N devices
    python -m torch.distributed.run --nnodes M ... -m baker.training.run SPEC.json    on each of M machines, one folder

Standard output carries the events of `training/events.py` and nothing else. SIGTERM ends the process after it has kept
its training state. Of several processes, only the first one reports and writes.
"""

import os

if __name__ == "__main__":
    # Ctrl-C in the terminal is for the service, which ends this process in its own time.
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    from baker.training.devices import openmp  # imports no torch, which reads what `set_spin_count` sets

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
"""An error may be the echo of another process's end. Then torchrun, which looks every 0.1 s, sends SIGTERM first."""


def main(arguments: list[str], is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Returns the exit code: 0 after a `Done` event, 1 after a `Failed` one. Stopped, it ends by SIGTERM itself."""
    parser = argparse.ArgumentParser(prog="python -m baker.training.run", description="Train one bake as SPEC says.")
    parser.add_argument("spec", type=Path, help="JSON file of a TrainSpec")
    parser.add_argument("--watch-stdin", action="store_true", help="end at the end of standard input")
    options = parser.parse_args(arguments)
    if options.watch_stdin:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    emit = _take_stdout()
    try:
        with joined() as ranks, openmp.sleep_when_contended():
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
            failure = disk_error(error)
            emit(events.Failed(failure.message, failure.code))
        return 1
    except Exception as error:
        traceback.print_exc()
        if not is_alone() and _is_told(is_stopping, PEER_SECONDS):
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
