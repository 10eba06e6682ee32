"""Errors of the command: one line that says what happened and what to do, and the exit code."""

from enum import IntEnum

import click


class Exit(IntEnum):
    OK = 0
    DIFFERS = 1
    """Two versions differ (`diff --exit-code`), or the result was refused: a bake that failed or was held back."""
    USAGE = 2
    """Wrong arguments, or values that the server refuses."""
    CONFLICT = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    """The server can't be reached, refuses the key, or failed."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CliError(click.ClickException):
    """What the command could not do, in one line."""

    def __init__(self, message: str, exit_code: Exit = Exit.UNAVAILABLE, status: int | None = None) -> None:
        super().__init__(message)
        self.code = exit_code
        self.status = status
        """HTTP status of the answer, if the server refused the request."""


def exit_code_of(status: int) -> Exit:
    """The exit code for a refusal with this HTTP status."""
    match status:
        case 404:
            return Exit.NOT_FOUND
        case 409 | 412:
            return Exit.CONFLICT
        case 400 | 413 | 422:
            return Exit.USAGE
    return Exit.UNAVAILABLE
