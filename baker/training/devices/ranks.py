"""The processes that train a bake together, as torchrun starts them. With one process, nothing here costs anything.

All of them run the same program over the same data and take the same branches. What only one of them can know (the
time, a signal, the disk) is agreed on before any acts on it; otherwise they would wait for each other forever.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

from baker.errors import StageError

Value = TypeVar("Value")


class Ranks:
    """Every process must call the methods that return something, in the same order."""

    def __init__(self, rank: int = 0, size: int = 1, here: int | None = None) -> None:
        """Args:
        rank: number of this process, from 0.
        size: number of processes.
        here: number of them on this machine; None: all.
        """
        self.rank, self.size, self.here = rank, size, here or size

    @property
    def is_first(self) -> bool:
        """Whether this process reports and writes files."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum over all processes of each value."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def least(self, value: float) -> float:
        """The smallest value of all processes."""
        return self._reduce([value], dist.ReduceOp.MIN)[0]

    def all(self, condition: bool) -> bool:
        """Whether `condition` is true in every process."""
        return not self.any(not condition)

    def any(self, condition: bool) -> bool:
        """Whether `condition` is true in at least one process."""
        return self._reduce([float(condition)], dist.ReduceOp.MAX)[0] > 0

    def _reduce(self, values: Sequence[float], operation: dist.ReduceOp) -> list[float]:
        if self.size == 1:
            return list(values)
        reduced = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(reduced, operation)
        return [float(value) for value in reduced]

    def gather(self, value: Value) -> list[Value]:
        """The value of each process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Value | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # all places are filled

    def by_first(self, action: Callable[[], Value]) -> Value:
        """Runs `action` in the first process only. Returns in all of them what it returned, or raises the OSError that
        it raised."""
        if self.size == 1:
            return action()
        outcome: list[tuple[Value | None, OSError | None]] = [(None, None)]
        if self.is_first:
            try:
                outcome = [(action(), None)]
            except OSError as error:
                outcome = [(None, error)]
        dist.broadcast_object_list(outcome)
        value, raised = outcome[0]
        if raised is not None:
            raise raised
        return value  # type: ignore[return-value]  # it is the action's


ALONE = Ranks()


def is_alone() -> bool:
    """Whether this process trains alone: torchrun started no other, or was not used."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1


def is_first() -> bool:
    """Whether this process reports; known even before, or without, a connection to the others."""
    return int(os.environ.get("RANK", 0)) == 0


def visible_gpus() -> int:
    """Number of GPUs, counted without initialising any."""
    return int(torch.cuda.device_count())


@contextmanager
def joined() -> Iterator[Ranks]:
    """Connects the processes. Each gets a GPU of its own, with NCCL between them; agreements use the CPU (gloo).

    Raises: StageError if there are fewer GPUs than processes.
    """
    if is_alone():
        yield ALONE
        return
    if torch.cuda.is_available():
        local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= gpus:
            raise StageError(
                f"the bake needs {local_rank + 1} or more GPUs, this machine has {gpus}: lower --trainer-devices"
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
    # Only after success: if one process is gone, closing the group may block forever in the others.
    dist.destroy_process_group()
