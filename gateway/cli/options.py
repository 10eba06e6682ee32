"""Arguments and options that several verbs have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from gateway.cli.completion import complete_name, complete_repo
from gateway.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])

pass_session = click.make_pass_decorator(Session, ensure=True)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print the server's answer as one JSON document.")(
        function
    )


def repo_option(function: F) -> F:
    return click.option(
        "--repo", metavar="REPO", shell_complete=complete_repo, help="Repo of names without one (see bread switch)."
    )(function)


def version_argument(name: str, **settings: Any) -> Callable[[F], F]:
    """A version's name, completed with the server's names."""
    return click.argument(name, metavar=settings.pop("metavar", name.upper()), shell_complete=complete_name, **settings)
