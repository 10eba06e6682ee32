"""The processes that train a bake together, as torchrun starts them; alone, nothing here does or costs anything.

All of them run the same program over the same data and take the same turns: whatever only one of them can know (the
time, a signal, the disk) is agreed on before any acts on it, or they would wait for each other forever.
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
    """Every method that returns something must be called by all of them, in the same order."""

    def __init__(self, rank: int = 0, size: int = 1, here: int | None = None) -> None:
        """Args: here: how many of them run on this machine; None: all."""
        self.rank, self.size, self.here = rank, size, here or size

    @property
    def is_first(self) -> bool:
        """The one that speaks and writes files."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        return self._reduce(values, dist.ReduceOp.SUM)

    def least(self, value: float) -> float:
        return self._reduce([value], dist.ReduceOp.MIN)[0]

    def all(self, are_so: bool) -> bool:
        return not self.any(not are_so)

    def any(self, is_so: bool) -> bool:
        return self._reduce([float(is_so)], dist.ReduceOp.MAX)[0] > 0

    def _reduce(self, values: Sequence[float], how: dist.ReduceOp) -> list[float]:
        if self.size == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(together, how)
        return [float(value) for value in together]

    def gather(self, value: Value) -> list[Value]:
        """That of each, by rank."""
        if self.size == 1:
            return [value]
        found: list[Value | None] = [None] * self.size
        dist.all_gather_object(found, value)
        return found  # type: ignore[return-value]  # all places are filled

    def by_first(self, action: Callable[[], Value]) -> Value:
        """What `action` returned on the first, or the OSError that it raised there. The others wait."""
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
    """Whether torchrun started this process by itself, or did not start it at all."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1


def is_first() -> bool:
    """Whether it is the one of its kind that speaks, even where the others were never met."""
    return int(os.environ.get("RANK", 0)) == 0


def visible_gpus() -> int:
    """Counted without touching any of them."""
    return int(torch.cuda.device_count())


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meet the others. A GPU each, chosen here, and NCCL between them; what is agreed on goes by way of the CPU.

    Raises: StageError if there are not as many GPUs.
    """
    if is_alone():
        yield ALONE
        return
    if torch.cuda.is_available():
        place, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= there:
            raise StageError(
                f"the bake was to train on {place + 1} GPUs, and there are {there}: lower --trainer-devices"
            )
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
    # Only where all went well: with one of them gone, the others' goodbye may never end.
    dist.destroy_process_group()
