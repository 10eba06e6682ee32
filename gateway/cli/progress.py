"""A progress bar for a request that takes long, on standard error; nothing without a terminal."""

from __future__ import annotations

import sys
from typing import Any

from gateway.cli.client import LONG_SECONDS, Client, reason
from gateway.cli.failures import CliError, Exit


def post_with_progress(client: Client, path: str, body: dict[str, Any], label: str) -> Any:
    """POST, with the answer's progress events as a bar. Returns: the result.

    Raises: CliError; also if the stream ends with an error or without a result.
    """
    if not sys.stderr.isatty():
        return client.post(path, body, timeout=LONG_SECONDS)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        task = progress.add_task(label, total=None)
        for name, event in client.events(path, {**body, "stream": True}):
            if name == "progress":
                progress.update(task, completed=event["done"], total=event["total"])
            elif name == "result":
                return event
            elif name == "error":
                raise CliError(reason(event) or "the server failed and gives no reason")
    raise CliError("the server ended the answer before it was complete: try again", Exit.UNAVAILABLE)
