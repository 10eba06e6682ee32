"""Which rows of an optimizer step each of several processes takes; pure."""

from collections.abc import Sequence
from typing import NamedTuple


class Share(NamedTuple):
    groups: list[list[int]]
    """Rows of each forward pass; as many passes as everybody else makes."""
    counted: int
    """The passes from here on only keep step with the others: they weigh nothing."""


def share(groups: list[list[int]], lengths: Sequence[int], batch_size: int, rank: int, size: int) -> Share:
    """What process `rank` of `size` does of a step that one process, given room, would do in `groups`.

    Args:
        lengths: in tokens, of all rows.
        batch_size: most rows in a pass.
    """
    if size == 1:
        cut = [group[at : at + batch_size] for group in groups for at in range(0, len(group), batch_size)]
        return Share(cut, len(cut))
    rows = [row for group in groups for row in group]
    own = _deal(rows, lengths, size)[rank]
    cut = [own[at : at + batch_size] for at in range(0, len(own), batch_size)]
    passes = -(-_most(rows, size) // batch_size)
    shortest = min(rows, key=lengths.__getitem__)
    return Share(cut + [[shortest]] * (passes - len(cut)), len(cut))


def _deal(rows: list[int], lengths: Sequence[int], size: int) -> list[list[int]]:
    """Each row once, the longest first to whoever has the fewest tokens; rows are counted evenly too, as memory asks.

    The order is the same in all processes.
    """
    hands: list[list[int]] = [[] for _ in range(size)]
    tokens = [0] * size
    most = _most(rows, size)
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        at = min((index for index in range(size) if len(hands[index]) < most), key=tokens.__getitem__)
        hands[at].append(row)
        tokens[at] += lengths[row]
    return hands


def _most(rows: list[int], size: int) -> int:
    return -(-len(rows) // size)
