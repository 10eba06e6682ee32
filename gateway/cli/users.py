"""`python -m gateway users ...`: the users of a running service and their keys, over HTTP with its master key.

A key is printed alone on standard output, what is said about it on standard error: `KEY=$(... users new-key alice)`.
"""

import argparse
import getpass
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gateway.config import Settings, values_given

USERS = "/v1/admin/users"
TIMEOUT_SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")

DEFAULT_URL = f"http://{Settings().host}:{Settings().port}"
EXIT_REFUSED = 1

Action = Callable[[httpx.Client, argparse.Namespace], None]


class RefusedError(Exception):
    """Why it was not done, in words for the operator."""


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    transport: httpx.BaseTransport | None = None,
) -> int:
    """Do what the arguments say.

    Args: transport: in place of the network.
    Returns: the process's exit code.
    Raises: SystemExit for `--help` and wrong usage.
    """
    options = _parser().parse_args(arguments)
    given = values_given(("base_url", "api_key"), vars(options), environment, folder)
    try:
        with _client(given.get("base_url", DEFAULT_URL), given.get("api_key"), transport) as client:
            options.act(client, options)
    except RefusedError as error:
        print(f"gateway users: {error}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


def _client(url: str, key: str | None, transport: httpx.BaseTransport | None) -> httpx.Client:
    if key is None:
        raise RefusedError("there is no key: set BREAD_API_KEY to the master key, or run in the folder with .env")
    try:
        # What the environment says of proxies is for other hosts than this one.
        is_elsewhere = httpx.URL(url).host not in LOOPBACK
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(
            base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=is_elsewhere, transport=transport
        )
    except httpx.InvalidURL as error:
        raise RefusedError(f"{url!r} is no URL ({error}): say where the service is with --base-url") from error


def list_users(client: httpx.Client, options: argparse.Namespace) -> None:
    rows = [("USER", "ALIAS", "E-MAIL", "SINCE", "KEYS")]
    for user in _ask(client, "GET", USERS)["users"]:
        since = time.strftime("%Y-%m-%d", time.gmtime(user["created"]))
        keys = ", ".join(key["key_id"] for key in user["keys"]) or "none"
        rows.append((user["user_id"], _printable(user["user_alias"]), _printable(user["user_email"]), since, keys))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def add_user(client: httpx.Client, options: argparse.Namespace) -> None:
    body = {
        "user_id": options.user,
        "user_alias": options.user if options.alias is None else options.alias,
        "user_email": options.email,
        "password": _password(),
    }
    made = _ask(client, "POST", USERS, body)
    if "api_key" in made:
        _show_key(made)
    else:
        print(f"{options.user} was added before; `new-key {options.user}` makes a further key", file=sys.stderr)


def remove_user(client: httpx.Client, options: argparse.Namespace) -> None:
    print(_ask(client, "DELETE", f"{USERS}/{_quoted(options.user)}")["message"], file=sys.stderr)


def new_key(client: httpx.Client, options: argparse.Namespace) -> None:
    _show_key(_ask(client, "POST", f"{USERS}/{_quoted(options.user)}/keys"))


def revoke_key(client: httpx.Client, options: argparse.Namespace) -> None:
    path = f"{USERS}/{_quoted(options.user)}/keys/{_quoted(options.key)}"
    print(_ask(client, "DELETE", path)["message"], file=sys.stderr)


def _ask(client: httpx.Client, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """The service's answer. Raises: RefusedError with its reason."""
    try:
        answer = client.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise RefusedError(
            f"no service answers at {client.base_url} ({error}): start it, or say where it is with --base-url"
        ) from error
    try:
        said = answer.json()
    except ValueError:
        said = None
    if answer.is_success and isinstance(said, dict):
        return said
    reason = said.get("message") if isinstance(said, dict) else None
    raise RefusedError(reason or f"{client.base_url} is no Bread service: it answered {answer.status_code} to {path}")


def _show_key(made: dict[str, Any]) -> None:
    print(f"The key of {made['user_id']}, which is not shown again:", file=sys.stderr)
    print(made["api_key"])


def _password() -> str:
    """Asked for, or the first line of what is piped in: never an argument, which other processes see."""
    return getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _printable(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _parser() -> argparse.ArgumentParser:
    service = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    service.add_argument("--base-url", metavar="URL", help="where the service is [BREAD_BASE_URL]")
    service.add_argument("--api-key", metavar="KEY", help="its master key [BREAD_API_KEY]")
    parser = argparse.ArgumentParser(
        prog="python -m gateway users",
        description="Users of a running service and their keys. To rotate a key: new-key, then revoke.",
        epilog="An option goes before its environment variable, and that before a .env file in the working folder.",
        parents=[service],
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, act: Action, what: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=what, description=what, parents=[service])
        added.set_defaults(act=act)
        return added

    action("list", list_users, "show users and the ids of their keys")
    add = action("add", add_user, "add a user and print its key; the password is asked for, or read from a pipe")
    add.add_argument("user", help="id: it stands before the user's model names, user/repo/bake")
    add.add_argument("--email", required=True)
    add.add_argument("--alias", help="a name for people; default: the id")
    remove = action("remove", remove_user, "remove a user with all repos, bakes and files; keys stop at once")
    remove.add_argument("user")
    further = action("new-key", new_key, "print a further key of a user")
    further.add_argument("user")
    revoke = action("revoke", revoke_key, "make a key invalid at once")
    revoke.add_argument("user")
    revoke.add_argument("key", metavar="key_id", help="as list shows it")
    return parser
