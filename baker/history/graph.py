"""Questions about the graph of commits: ancestors, order, merge bases. Pure functions.

Each takes `parents`: id of a commit -> the ids of its parents, the first one first. An id that is no key is not in the
repo, so nothing is known about it, and it is left out of every answer.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

Parents = Mapping[str, Sequence[str]]


def ancestors(parents: Parents, tips: Iterable[str]) -> set[str]:
    """The tips and everything that they came from."""
    known: set[str] = set()
    stack = list(tips)
    while stack:
        commit = stack.pop()
        if commit in parents and commit not in known:
            known.add(commit)
            stack += parents[commit]
    return known


def is_ancestor(parents: Parents, older: str, newer: str) -> bool:
    """Whether `newer` came from `older`, or is the same commit."""
    return older in ancestors(parents, [newer])


def first_parents(parents: Parents, tip: str) -> Iterator[str]:
    """The tip, its first parent, the first parent of that one, and so on."""
    commit: str | None = tip
    while commit is not None and commit in parents:
        yield commit
        commit = next(iter(parents[commit]), None)


def log_order(parents: Parents, commits: Iterable[str], created: Mapping[str, int]) -> list[str]:
    """The commits, each before its parents, else the newest first.

    Args: created: id -> Unix seconds. Among those of one second, the order of `parents` decides: the last one first.
    """
    chosen = set(commits) & parents.keys()
    position = {commit: number for number, commit in enumerate(parents)}
    children_left = dict.fromkeys(chosen, 0)
    for commit in chosen:
        for parent in set(parents[commit]) & chosen:
            children_left[parent] += 1

    def rank(commit: str) -> tuple[int, int, str]:
        return -created[commit], -position[commit], commit

    ready = [rank(commit) for commit in chosen if not children_left[commit]]
    heapq.heapify(ready)
    order = []
    while ready:
        commit = heapq.heappop(ready)[2]
        order.append(commit)
        for parent in set(parents[commit]) & chosen:
            children_left[parent] -= 1
            if not children_left[parent]:
                heapq.heappush(ready, rank(parent))
    return order


def merge_bases(parents: Parents, one: str, other: str) -> list[str]:
    """The common ancestors that are not ancestors of other common ancestors, in the order of `parents`.

    More than one: both sides were merged with each other before (a criss-cross). None: they share nothing.
    """
    common = ancestors(parents, [one]) & ancestors(parents, [other])
    # On the way from a common ancestor to an older one, each commit is a common ancestor. So an ancestor of another
    # common one is a parent of a common one.
    older = {parent for commit in common for parent in parents[commit]}
    return [commit for commit in parents if commit in common and commit not in older]
