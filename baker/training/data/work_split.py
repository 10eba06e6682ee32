"""Splits the rows of an optimizer step among processes; pure."""

from collections.abc import Sequence
from typing import NamedTuple


class Share(NamedTuple):
    """The rows of one process."""

    groups: list[list[int]]
    """Indices of the rows of each forward pass. Every process makes the same number of passes."""
    counted: int
    """Number of passes that count. The passes after them only keep step with the other processes: their weight is 0."""


def share(groups: list[list[int]], lengths: Sequence[int], batch_size: int, rank: int, size: int) -> Share:
    """The share of process `rank` of `size` in a step.

    Args:
        groups: indices of the step's rows, in the batches of a single process with enough memory.
        lengths: tokens of each row, by index.
        batch_size: largest number of rows in a pass.
    """
    if size == 1:
        batches = [group[at : at + batch_size] for group in groups for at in range(0, len(group), batch_size)]
        return Share(batches, len(batches))
    rows = [row for group in groups for row in group]
    own = _deal(rows, lengths, size)[rank]
    batches = [own[at : at + batch_size] for at in range(0, len(own), batch_size)]
    passes = -(-_most_rows(rows, size) // batch_size)
    shortest = min(rows, key=lengths.__getitem__)
    return Share(batches + [[shortest]] * (passes - len(batches)), len(batches))


def _deal(rows: list[int], lengths: Sequence[int], size: int) -> list[list[int]]:
    """The rows of each process: each row once, the longest first, to the process with the fewest tokens so far. Numbers
    of rows are evened out too, since they decide the memory.

    Deterministic, so that all processes agree.
    """
    hands: list[list[int]] = [[] for _ in range(size)]
    tokens = [0] * size
    most_rows = _most_rows(rows, size)
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        at = min((index for index in range(size) if len(hands[index]) < most_rows), key=tokens.__getitem__)
        hands[at].append(row)
        tokens[at] += lengths[row]
    return hands


def _most_rows(rows: list[int], size: int) -> int:
    """Largest number of rows that a process takes."""
    return -(-len(rows) // size)
