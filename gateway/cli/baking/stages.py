"""Follows the stages of a bake: progress bars in a terminal, else a line now and then. All of it on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gateway.cli.client import Client, Unreachable
from gateway.cli.failures import CliError, Exit
from gateway.cli.output import note
from gateway.cli.session import path_of
from gateway.cli.text import one_line, seconds

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0
"""Between two lines of one stage where there is no terminal."""
OUTAGE_SECONDS = 120.0
"""How long the server may be away, as while it restarts, before following ends."""
BAR_COLUMNS = 24

Status = dict[str, Any]
Report = Callable[[str, Status], None]


class Stage(NamedTuple):
    label: str
    """`stim`, `rollout` or `bake`."""
    path: str
    """Path of its status."""
    unit: str
    """What it counts; empty: only percent."""


def stages_of(repo: str, target: str, bake: str | None = None) -> list[Stage]:
    stages = [
        Stage("stim", path_of(repo, "targets", target, "stim"), "questions"),
        Stage("rollout", path_of(repo, "targets", target, "rollout"), "answers"),
    ]
    return stages if bake is None else [*stages, Stage("bake", path_of(repo, "bakes", bake), "")]


def start(client: Client, stages: Sequence[Stage]) -> None:
    """Start the stages. Each waits for the one before; those that run or are complete are left alone."""
    for stage in stages:
        client.post(stage.path)


def run_all(client: Client, stages: Sequence[Stage], bake: str) -> dict[str, Status]:
    """`start` and `follow`. Ctrl-C ends only the following, and says how to go on. Args: bake: `repo/bake`."""
    try:
        start(client, stages)
        return follow(client, stages)
    except KeyboardInterrupt:
        note(f"The server continues. bread logs {bake} -f follows it, bread cancel {bake} stops it.")
        raise


def follow(client: Client, stages: Sequence[Stage]) -> dict[str, Status]:
    """Show the stages until all have ended. Returns: label -> last status.

    Raises: CliError if a stage fails.
    """
    if sys.stderr.isatty():
        from rich.console import Console

        with _bars(Console(stderr=True, highlight=False)) as progress:
            bars = _Bars(progress, stages)
            return _poll(client, stages, bars.show)
    lines = _Lines(stages)
    return _poll(client, stages, lines.show)


def _poll(client: Client, stages: Sequence[Stage], report: Report) -> dict[str, Status]:
    ended: dict[str, Status] = {}
    lost_since: float | None = None
    while True:
        try:
            for stage in stages:
                if stage.label not in ended:
                    status = client.get(stage.path)
                    report(stage.label, status)
                    if status["status"] == "failed":
                        raise _failure(stage.label, status)
                    if status["status"] in {"complete", "not_started"}:
                        ended[stage.label] = status
            lost_since = None
        except CliError as error:
            if not isinstance(error, Unreachable) and error.status != 503:
                raise
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > OUTAGE_SECONDS:
                raise
        if len(ended) == len(stages):
            return ended
        time.sleep(POLL_SECONDS)


def _failure(label: str, status: Status) -> CliError:
    reason = one_line(status.get("error") or "it gives no reason").rstrip(".")
    return CliError(f"{label} failed: {reason}. Run the same command again to try again", Exit.DIFFERS)


def note_of(stage: Stage, status: Status) -> str:
    """`31 of 64 answers, 22 s left`: what stands beside the bar."""
    state = status["status"]
    notes = []
    if state == "pending":
        reasons = [one_line(each["text"]).removeprefix("It ").rstrip(".") for each in status.get("waiting_for") or []]
        return reasons[0] if reasons else "waits for its turn"
    lines, total = status.get("lines"), status.get("total_expected")
    if stage.unit and lines:
        notes.append(f"{lines} of {total} {stage.unit}" if total and state == "running" else f"{lines} {stage.unit}")
    training = status.get("training")
    if training is None and (phase := (status.get("merge") or {}).get("phase")) is not None:
        notes.append(phase)
    if training is not None:
        notes.append(f"loss {training['loss']:.3f}")
        notes.append(f"{training['tokens_per_second']:,.0f} tokens/s")
    if state == "running" and status.get("eta_seconds") is not None:
        notes.append(f"{seconds(status['eta_seconds'])} left")
    if state == "complete" and status.get("running_seconds") is not None:
        notes.append(seconds(status["running_seconds"]))
    return ", ".join(notes)


def _bars(console: Any) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    one_line_column = Column(no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", table_column=Column(width=7, no_wrap=True), markup=False),
        BarColumn(BAR_COLUMNS, complete_style="green", finished_style="green", pulse_style="dim"),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=one_line_column),
        console=console,
        refresh_per_second=4,
    )


class _Bars:
    def __init__(self, progress: Progress, stages: Sequence[Stage]) -> None:
        self._progress = progress
        self._stages = {stage.label: stage for stage in stages}
        self._tasks: dict[str, TaskID] = {
            stage.label: progress.add_task(stage.label, total=100.0, note="") for stage in stages
        }

    def show(self, label: str, status: Status) -> None:
        note = note_of(self._stages[label], status)
        self._progress.update(self._tasks[label], completed=_percent(status), note=note)


class _Lines:
    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = {stage.label: stage for stage in stages}
        self._shown: dict[str, tuple[str, float]] = {}

    def show(self, label: str, status: Status) -> None:
        state, now = status["status"], time.monotonic()
        before, since = self._shown.get(label, ("", 0.0))
        if state == before and (state != "running" or now - since < LINE_SECONDS):
            return
        self._shown[label] = state, now
        click.echo(f"{label:8}{_percent(status):3.0f}%  {note_of(self._stages[label], status) or state}", err=True)


def _percent(status: Mapping[str, Any]) -> float:
    return 100.0 if status["status"] == "complete" else float(status.get("progress_percent") or 0.0)


def warnings_of(statuses: Mapping[str, Status]) -> list[str]:
    """What the stages did otherwise than they were asked to, each once."""
    return list(dict.fromkeys(one_line(text) for status in statuses.values() for text in status.get("warnings") or []))
