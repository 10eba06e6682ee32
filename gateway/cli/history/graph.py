"""Draws a graph of commits as text, as `git log --graph` does: `*` for a commit, `|`, `\\`, `/` and `_` for its edges.

A lane is a column that leads to one commit further down. Two lanes never lead to the same commit once a commit's rows
are drawn: the right one joins the left one.
"""

from collections.abc import Sequence
from typing import NamedTuple

Cells = dict[int, str]
"""Place in a row -> character. Lane n is at place 2n."""


class Drawing(NamedTuple):
    """The rows of one commit. No row ends in a space."""

    above: list[str]
    """Rows that make room for a commit with more than two parents."""
    node: str
    """The row with the commit's `*`."""
    edges: list[str]
    """The rows between this commit and the next one."""


class Graph:
    """Give it the commits in an order in which children come before their parents."""

    def __init__(self) -> None:
        self._lanes: list[str | None] = []
        """The commit that each lane leads to; None: an empty column."""
        self._end: int | None = None
        """Last lane, if the commit before ended there: the next commit must not stand under it like its parent."""

    def add(self, commit: str, parents: Sequence[str]) -> Drawing:
        """Draw the next commit. Args: parents: ids, also of commits that are never drawn."""
        empty = None
        if commit not in self._lanes:
            if self._end == len(self._lanes):
                empty = self._end
                self._lanes.append(None)
            self._lanes.append(commit)
        self._end = None
        at, different = self._lanes.index(commit), list(dict.fromkeys(parents))
        room = max(0, len(different) - 2)
        """Lanes that the dashes to the third and later parents cross."""
        right = range(at + 1, len(self._lanes))
        above = [
            _row(self._straight(at + 1) | {2 * (lane + step) + 1: "\\" for lane in right})
            for step in range(room if right else 0)
        ]
        others = {2 * (lane + room): "|" for lane in right}
        dashes = dict.fromkeys(range(2 * at + 1, 2 * (at + room)), "-") | ({2 * (at + room): "."} if room else {})
        node = _row(self._straight(at) | others | dashes | {2 * at: "*"})
        edges = self._fan_out(at, different, room) if different else self._close(at)
        if empty is not None:
            edges += self._close(empty)
            self._end = None
        while (pair := self._same()) is not None:
            edges += self._join(*pair)
        return Drawing(above, node, edges)

    def _close(self, at: int) -> list[str]:
        """The lane of a commit without parents ends; those at its right move left."""
        count = len(self._lanes)
        del self._lanes[at]
        if at == count - 1:
            self._end = at
            return []
        return [_row(self._straight(at) | {2 * lane - 1: "/" for lane in range(at + 1, count)})]

    def _fan_out(self, at: int, parents: Sequence[str], room: int) -> list[str]:
        """The commit's lane goes on to its first parent; the other parents get lanes at its right."""
        count = len(self._lanes)
        self._lanes[at : at + 1] = parents
        extra = len(parents) - 1
        if extra == 0:
            return []
        new = {2 * (at + number) + 1: "\\" for number in range(extra)}
        moved = {2 * (lane + room) + 1: "\\" for lane in range(at + 1, count)}
        return [_row(self._straight(at + 1) | new | moved)]

    def _same(self) -> tuple[int, int] | None:
        """The first two lanes that lead to the same commit: left, right."""
        for right, commit in enumerate(self._lanes):
            left = self._lanes.index(commit)
            if left != right:
                return left, right
        return None

    def _join(self, left: int, right: int) -> list[str]:
        """The right lane joins the left one, passing under those between; lanes at its right move left."""
        count = len(self._lanes)
        del self._lanes[right]
        passing = {2 * lane + 1: "_" for lane in range(left + 1, right - 1)}
        moved = {2 * lane - 1: "/" for lane in range(right, count)}
        edges = [_row(self._straight(right) | passing | moved)]
        if right - left > 1:
            edges.append(_row(self._straight(count - 1) | {2 * left + 1: "/"}))
        return edges

    def _straight(self, count: int) -> Cells:
        """The first lanes, each going straight on."""
        return {2 * number: "|" for number, lane in enumerate(self._lanes[:count]) if lane is not None}


def _row(cells: Cells) -> str:
    return "".join(cells.get(place, " ") for place in range(max(cells, default=-1) + 1))
