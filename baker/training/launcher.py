"""The training process seen from outside: start it, hear it out, end it. What it does is in `train.py`.

A process of its own, so that running out of memory or a crash there never takes the service down.
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

NICENESS = 5  # serving goes first where both share a core, and leaves a quarter of it
STOP_SECONDS = 30  # to end a batch and write the training state; the service's own end waits for it
LENDER_SECONDS = 0.5
"""A training that ends may have lost the weights that it was lent, which is seen so much later at most."""
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
        on_event: awaited for each event as it comes.
        lender_gone: returns once the weights that the process may have been lent are no more.
    Raises: TrainingError or StageError with the process's own reason; NeedsRoomError if it only fits while the engine
        sleeps; TrainerLostError if it gave none; EngineError if the lender is gone, and the process was killed for it.
        When cancelled, the process is ended first, and keeps its state.
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
            "--watch-stdin",  # ends by itself when this process is killed
            # Ctrl-C in the terminal is for the service. Not `process_group`, which uvloop refuses; alone, the training
            # process does it itself.
            preexec_fn=os.setpgrp if spec.devices > 1 else None,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LINE_BYTES,
        )
    # No session of its own (start_new_session): Linux shares the cores between sessions first (autogroup), and
    # niceness would mean nothing.
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
    """Python's options that start a module so many times, on this machine."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]


def devices_for(config: BakeConfig) -> int:
    """Of the GPUs there are, as many as get a trajectory of each step, or all where the weights are parted among them;
    1 without any."""
    from baker.training.devices.ranks import visible_gpus  # loads torch, which of this service only a bake needs

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
            raise TrainingError(f"the training process said something unknown: {line[:200]!r}") from error
        await on_event(event)
        match event:
            case events.Failed(message, code):
                raise _ERRORS.get(code, StageError)(message, code=code)
            case events.Done():
                is_done = True
    status = await process.wait()
    if not is_done:
        raise TrainerLostError(f"the training process {_ending(status)} before it was done; its trainer.log says more")


async def _while_lent(
    process: asyncio.subprocess.Process,
    on_event: Callable[[events.TrainEvent], Awaitable[None]],
    lender_gone: Awaitable[None],
) -> None:
    """As `_follow`, but the process is killed when the lender is gone, if it uses the lender's weights: from then on it
    would compute with whatever is in that memory."""
    gone = asyncio.ensure_future(lender_gone)

    async def hear(event: events.TrainEvent) -> None:
        if isinstance(event, events.Planned) and not event.memory.is_lent:
            gone.cancel()
        await on_event(event)

    work = asyncio.ensure_future(_follow(process, hear))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not gone.done():  # it may be the reason, and not have been seen yet
            await asyncio.wait({gone}, timeout=LENDER_SECONDS)
        if gone.done() and not gone.cancelled():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise EngineError("the engine ended, whose weights the training used")
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
