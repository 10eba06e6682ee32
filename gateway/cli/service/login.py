"""`bread login`: keeps a server's URL and key, after trying them."""

import sys

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.options import pass_session
from gateway.cli.servers import Server, normal_url
from gateway.cli.session import Session


@click.command()
@click.argument("url", required=False)
@click.option("--forget", is_flag=True, help="Remove the server's key from the file.")
@pass_session
def login(session: Session, url: str | None, forget: bool) -> None:
    """Keep the URL and key of a gateway.

    No other command needs them then. Asks for what is missing; without a terminal, the key is the first line of
    standard input. The file is ~/.config/bread/login.json, readable only by you. BREAD_BASE_URL and
    BREAD_API_KEY, in the environment or in .env, take precedence over it.
    """
    logins = session.settings.logins
    address = normal_url(url or session.url or _asked_url(session))
    if forget:
        logins.save(address, api_key=None)
        click.echo(f"Forgot the key of {address}.")
        return
    key = _asked_key()
    if not key:
        raise CliError("the key is empty: make serve writes it to .env as BREAD_API_KEY", Exit.USAGE)
    client = session.client_of(Server(address, key))
    try:
        repos = client.get("/v1/repo")
    except CliError as error:
        if error.status == 401:
            raise CliError(f"{address} does not know this key: make serve writes it to .env") from error
        raise
    finally:
        client.close()
    if not isinstance(repos, dict) or "repos" not in repos:
        raise CliError(f"{address} answers, but is not a Bread gateway: check the URL", Exit.USAGE)
    logins.save(address, is_current=True, api_key=key)
    click.echo(f"Logged in to {address}. The key is in {logins.path}.")
    for name in ("BREAD_BASE_URL", "BREAD_API_KEY"):
        if session.settings.value(name) is not None:
            click.secho(f"note: {name} in the environment or .env takes precedence here.", dim=True, err=True)


def _asked_url(session: Session) -> str:
    default = session.server.url
    return click.prompt("URL of the gateway", default=default, err=True) if sys.stdin.isatty() else default


def _asked_key() -> str:
    """Never an argument, which other processes can see."""
    if sys.stdin.isatty():
        return str(click.prompt("Key", hide_input=True, err=True)).strip()
    return sys.stdin.readline().strip()
