"""The progress of a copy on standard error: a bar in a terminal, else nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.cli.text import count, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Silent:
    """See `copying.Report`."""

    def plan(self, commits: int) -> None:
        return

    def commit_done(self) -> None:
        return

    def bytes_done(self, number: int) -> None:
        return


class Bar:
    """See `copying.Report`."""

    def __init__(self, progress: Progress, verb: str) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task(verb, total=None, sent="")
        self._bytes = 0

    def plan(self, commits: int) -> None:
        self._progress.update(self._task, total=commits, sent=count(commits, "commit"))

    def commit_done(self) -> None:
        self._progress.advance(self._task)

    def bytes_done(self, number: int) -> None:
        self._bytes += number
        self._progress.update(self._task, sent=size(self._bytes))


@contextmanager
def shown(verb: str) -> Iterator[Silent | Bar]:
    """Args: verb: what the copy is, such as `pushing`."""
    if not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[sent]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, verb)
