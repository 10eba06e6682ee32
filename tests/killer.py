"""Kills a service's own process (SIGKILL) at a chosen point of its work, so that a test needs no timing.

The service runs as it is: its statements are seen by SQLite's trace, its removals by Python's audit events. A file
names the point, in one of these forms; nothing is counted before the file exists.

    before 3 insert.*commits    before the third statement in which that regular expression is found
    after 1 ^commit             before the statement after the first one in which it is found
    remove 2                    before the second removal of a file or folder
"""

import os
import re
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from baker.storage.home import DATABASE

REMOVALS = ("os.remove", "os.rmdir")
ORDER = "KILL_ORDER"
"""Environment variable with the path of the file, for `SITECUSTOMIZE`."""
SITECUSTOMIZE = f"""
import os, sys
if {ORDER!r} in os.environ and sys.orig_argv[1:3] == ["-m", "gateway"]:
    from pathlib import Path
    from tests.killer import install
    install(Path(os.environ[{ORDER!r}]))
"""
"""Content of a sitecustomize.py, which Python runs before `python -m gateway`."""


def install(order: Path) -> None:
    """Watch this process, for as long as it runs."""
    count = 0
    is_next = False

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def reached(event: str) -> bool:
        """Whether the event is the chosen one."""
        nonlocal count
        if not order.exists():
            return False
        when, number, *pattern = order.read_text().split(maxsplit=2)
        if (when == "remove") != (event == "remove") or (pattern and not re.search(pattern[0], event, re.IGNORECASE)):
            return False
        count += 1
        return count == int(number)

    def trace(statement: str) -> None:
        nonlocal is_next
        if is_next:
            die()
        if reached(statement):
            if order.read_text().startswith("before"):
                die()
            is_next = True

    connect = sqlite3.connect

    def connected(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, *arguments, **options)
        if Path(database).name == DATABASE:
            connection.set_trace_callback(trace)
        return connection

    def hear(event: str, _: tuple[Any, ...]) -> None:
        if event in REMOVALS and reached("remove"):
            die()

    sqlite3.connect = connected
    sys.addaudithook(hear)
