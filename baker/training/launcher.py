"""Starts the training process, reads its events and ends it. What the process does is in `run/train.py`.

Training has its own process so that a crash or lack of memory there never takes the service down.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from baker.config.bake import IN_PARTS, BakeConfig
from baker.errors import EngineError, NeedsRoomError, StageError, TrainerLostError, TrainingError
from baker.storage.files import write_json
from baker.storage.home import LOG, SPEC
from baker.training import events
from baker.training.spec import TrainSpec

NICENESS = 5  # where both share a core, serving gets three quarters of it
STOP_SECONDS = 30
"""Time for the process to finish a batch and write its state; a shutdown of the service waits for it."""
LENDER_SECONDS = 0.5
"""A training may fail because the engine that lent its weights died; that is noticed at most this much later."""
LINE_BYTES = 1 << 20

_ERRORS: dict[str, type[StageError]] = {error.code: error for error in (TrainingError, NeedsRoomError)}
"""Errors of the process that the service handles in their own way; others are raised as a StageError with its code."""


async def train(
    spec: TrainSpec,
    folder: Path,
    on_event: Callable[[events.TrainEvent], Awaitable[None]],
    lender_gone: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run the training process to its end.

    Args:
        folder: for spec.json and trainer.log (the process's standard error).
        on_event: awaited for each event in turn.
        lender_gone: returns when the engine that lent its weights to the process has ended.
    Raises: TrainingError, NeedsRoomError (it only fits while the engine sleeps) or StageError with the process's
        message and code; TrainerLostError if the process ended without one; EngineError if the lender ended, and the
        process was killed for that. When cancelled, the process stores its state and ends first.
    """
    spec_file = folder / SPEC
    write_json(spec_file, spec)
    with (folder / LOG).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(torchrun(spec.devices) if spec.devices > 1 else []),
            "-m",
            "baker.training.run",
            str(spec_file),
            "--watch-stdin",  # ends when this process is killed
            # Ctrl-C in the terminal must only reach the service. Not `process_group`: uvloop refuses it. A single
            # training process leaves the group itself.
            preexec_fn=os.setpgrp if spec.devices > 1 else None,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LINE_BYTES,
        )
    # Not start_new_session: Linux first shares the cores between sessions (autogroup), which makes niceness useless.
    try:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        if lender_gone is None:
            await _follow(process, on_event)
        else:
            await _while_lent(process, on_event, lender_gone())
    finally:
        await _end(process)


def torchrun(devices: int) -> list[str]:
    """Python options that start a module in `devices` processes on this machine."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]


def devices_for(config: BakeConfig) -> int:
    """Number of GPUs to train on: as many as get a trajectory of each step, or all if the weights are split among them;
    1 without a GPU."""
    from baker.training.devices.ranks import visible_gpus  # loads torch, which the service only needs for bakes

    gpus = visible_gpus()
    if config.deepspeed.zero_optimization.stage < IN_PARTS:
        gpus = min(gpus, config.micro_batch_size * config.gradient_accumulation_steps)
    return max(1, gpus)


async def _follow(
    process: asyncio.subprocess.Process, on_event: Callable[[events.TrainEvent], Awaitable[None]]
) -> None:
    assert process.stdout is not None
    is_done = False
    async for line in process.stdout:
        try:
            event = events.decode(line)
        except msgspec.DecodeError as error:
            raise TrainingError(f"the training process printed an unknown event: {line[:200]!r}") from error
        await on_event(event)
        match event:
            case events.Failed(message, code):
                raise _ERRORS.get(code, StageError)(message, code=code)
            case events.Done():
                is_done = True
    status = await process.wait()
    if not is_done:
        raise TrainerLostError(f"the training process {_ending(status)} before it was done: see its trainer.log")


async def _while_lent(
    process: asyncio.subprocess.Process,
    on_event: Callable[[events.TrainEvent], Awaitable[None]],
    lender_gone: Awaitable[None],
) -> None:
    """As `_follow`, but kills a process that uses the lender's weights when the lender ends: after that, the memory may
    hold anything."""
    gone = asyncio.ensure_future(lender_gone)

    async def hear(event: events.TrainEvent) -> None:
        if isinstance(event, events.Planned) and not event.memory.is_lent:
            gone.cancel()
        await on_event(event)

    work = asyncio.ensure_future(_follow(process, hear))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not gone.done():  # the lender may have ended first without being noticed yet
            await asyncio.wait({gone}, timeout=LENDER_SECONDS)
        if gone.done() and not gone.cancelled():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise EngineError("the engine that lent its weights to the training ended")
        await work
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


def _ending(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed (most often: out of memory)"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        assert process.stdin is not None
        process.stdin.close()  # ends those that torchrun started
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
