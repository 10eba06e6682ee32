"""`python -m gateway users ...`: manages the users and keys of a running service, over HTTP with its master key.

A key is printed on standard output and all other text on standard error, so `KEY=$(... users new-key alice)` works.
"""

import argparse
import getpass
import secrets
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
    """Why the action was not done, as a message for the operator."""


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    transport: httpx.BaseTransport | None = None,
) -> int:
    """Run the action that the arguments name.

    Args: transport: replaces the network in tests.
    Returns: exit code of the process.
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
        raise RefusedError(
            "no key: set BREAD_API_KEY to the master key, or run this in the folder of the service's .env"
        )
    try:
        # The environment's proxy settings are for remote hosts only.
        is_remote = httpx.URL(url).host not in LOOPBACK
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(
            base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=is_remote, transport=transport
        )
    except httpx.InvalidURL as error:
        raise RefusedError(f"{url!r} is not a valid URL ({error}): pass the service's with --base-url") from error


def list_users(client: httpx.Client, options: argparse.Namespace) -> None:
    rows = [("USER", "ALIAS", "E-MAIL", "SINCE", "KEYS")]
    for user in _request(client, "GET", USERS)["users"]:
        since = time.strftime("%Y-%m-%d", time.gmtime(user["created"]))
        keys = ", ".join(key["key_id"] for key in user["keys"]) or "none"
        rows.append((user["user_id"], _printable(user["user_alias"]), _printable(user["user_email"]), since, keys))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def add_user(client: httpx.Client, options: argparse.Namespace) -> None:
    """Without `--ask-password`, the user gets a random password that nobody knows: the API requires one."""
    fields = {
        "user_id": options.user,
        "user_alias": options.user if options.alias is None else options.alias,
        "user_email": options.email,
    }
    user: dict[str, Any] = {}
    if options.ask_password:
        user = _request(client, "POST", USERS, fields | {"password": _password()})
    elif not any(fields.items() <= known.items() for known in _request(client, "GET", USERS)["users"]):
        user = _request(client, "POST", USERS, fields | {"password": secrets.token_urlsafe(32)})
    if "api_key" in user:
        _show_key(user)
    else:
        print(f"{options.user} already exists; `new-key {options.user}` creates another key", file=sys.stderr)


def remove_user(client: httpx.Client, options: argparse.Namespace) -> None:
    print(_request(client, "DELETE", f"{USERS}/{_quoted(options.user)}")["message"], file=sys.stderr)


def new_key(client: httpx.Client, options: argparse.Namespace) -> None:
    _show_key(_request(client, "POST", f"{USERS}/{_quoted(options.user)}/keys"))


def revoke_key(client: httpx.Client, options: argparse.Namespace) -> None:
    path = f"{USERS}/{_quoted(options.user)}/keys/{_quoted(options.key)}"
    print(_request(client, "DELETE", path)["message"], file=sys.stderr)


def _request(client: httpx.Client, method: str, path: str, fields: dict[str, str] | None = None) -> dict[str, Any]:
    """The service's answer. Raises: RefusedError with the service's reason."""
    try:
        answer = client.request(method, path, json=fields)
    except httpx.HTTPError as error:
        raise RefusedError(
            f"no service answers at {client.base_url} ({error}): start it, or pass its URL with --base-url"
        ) from error
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.is_success and isinstance(body, dict):
        return body
    reason = body.get("message") if isinstance(body, dict) else None
    raise RefusedError(
        reason or f"{client.base_url} is not a Bread service: it answered {answer.status_code} to {path}"
    )


def _show_key(user: dict[str, Any]) -> None:
    print(f"The key of {user['user_id']}, which is not shown again:", file=sys.stderr)
    print(user["api_key"])


def _password() -> str:
    """Typed at a prompt, or the first line of standard input; never an argument, which other processes can see."""
    return getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _printable(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _parser() -> argparse.ArgumentParser:
    service = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    service.add_argument("--base-url", metavar="URL", help="URL of the service [BREAD_BASE_URL]")
    service.add_argument("--api-key", metavar="KEY", help="its master key [BREAD_API_KEY]")
    parser = argparse.ArgumentParser(
        prog="python -m gateway users",
        description="Users of a running service and their keys. To rotate a key: new-key, then revoke.",
        epilog="Options take precedence over environment variables, and these over a .env file in the working folder.",
        parents=[service],
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, act: Action, what: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=what, description=what, parents=[service])
        added.set_defaults(act=act)
        return added

    action("list", list_users, "show users and the ids of their keys")
    add = action("add", add_user, "add a user and print its key")
    add.add_argument("user", help="user id, the first part of the user's model names: user/repo/bake")
    add.add_argument("--email", required=True)
    add.add_argument("--alias", help="display name; default: the id")
    add.add_argument(
        "--ask-password",
        action="store_true",
        help="set a password too, read from the terminal or a pipe; nothing in this service asks for it",
    )
    remove = action("remove", remove_user, "remove a user with all repos, bakes and files; keys are invalid at once")
    remove.add_argument("user")
    further = action("new-key", new_key, "create another key for a user and print it")
    further.add_argument("user")
    revoke = action("revoke", revoke_key, "make a key invalid at once")
    revoke.add_argument("user")
    revoke.add_argument("key", metavar="key_id", help="id of the key, as shown by list")
    return parser
