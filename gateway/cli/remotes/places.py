"""What a remote's URL means: a repo on another gateway, a folder, or a repo on Hugging Face's hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.cli.failures import CliError, Exit
from gateway.cli.remotes.copying import Place
from gateway.cli.servers import Server, normal_url
from gateway.cli.session import Session, path_of

if TYPE_CHECKING:
    from gateway.cli.remotes.server import ServerRepo

FORMS = "http://HOST:PORT/REPO, file:/FOLDER or hf://ORG/NAME"


class Remote(NamedTuple):
    name: str | None
    """None: it was named by its URL, so its names are not tracked."""
    url: str
    place: Place


def is_url(text: str) -> bool:
    return re.match(r"(https?|hf)://|file:", text) is not None


def normal(url: str) -> str:
    """The URL as it is stored: paths of folders from the root. Raises: CliError if it is none."""
    if url.startswith("file:"):
        return f"file:{_folder(url)}"
    if not is_url(url):
        raise CliError(f"{url!r} is not a remote's URL: write {FORMS}", Exit.USAGE)
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise CliError(
            f"the URL holds a key: leave it out, and run `bread login {parts.scheme}://{parts.hostname}` to keep it",
            Exit.USAGE,
        )
    return url.rstrip("/")


def local_repo(session: Session, repo: str) -> ServerRepo:
    """A repo of the session's own server."""
    from gateway.cli.remotes.server import ByteClient, ServerRepo

    client = ByteClient(session.server, user=session.user, transport=session.transport)
    return ServerRepo(client, repo)


def find_remote(session: Session, local: ServerRepo, name: str) -> Remote:
    """The remote of that name, or at that URL. Raises: CliError."""
    if is_url(name):
        url = normal(name)
        return Remote(None, url, open_place(session, url, None))
    known = local.client.find(path_of(local.repo, "remotes", name))
    if known is None:
        raise CliError(
            f"{local.repo} has no remote {name!r}: bread remote add {name} URL, where URL is {FORMS}", Exit.NOT_FOUND
        )
    return Remote(name, known["url"], open_place(session, known["url"], name))


def open_place(session: Session, url: str, name: str | None) -> Place:
    """Args: name: of the remote, if it has one."""
    if url.startswith("file:"):
        from gateway.cli.remotes.folder import Folder
        from gateway.cli.remotes.layout import LayoutRepo

        return LayoutRepo(Folder(_folder(url)))
    if url.startswith("hf://"):
        from gateway.cli.remotes.hub import Hub
        from gateway.cli.remotes.layout import LayoutRepo

        return LayoutRepo(Hub(url.removeprefix("hf://").strip("/")))
    from gateway.cli.remotes.server import ByteClient, ServerRepo

    address, repo = split_url(url)
    return ServerRepo(ByteClient(Server(address, _key(session, address, name)), transport=session.transport), repo)


def split_url(url: str) -> tuple[str, str]:
    """The server's URL, and the repo's name."""
    address, _, repo = url.rstrip("/").rpartition("/")
    address = address.removesuffix("/v1/repo")
    if "//" not in address or address.endswith("/") or not repo:
        raise CliError(f"{url!r} names no repo: write http://HOST:PORT/REPO", Exit.USAGE)
    return normal_url(address), unquote(repo)


def key_variable(name: str) -> str:
    """Environment variable with the key of a remote: `BREAD_ORIGIN_API_KEY`."""
    return f"BREAD_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}_API_KEY"


def _key(session: Session, address: str, name: str | None) -> str | None:
    """The key for that server. BREAD_API_KEY belongs to the own server and is sent to no other."""
    if name is not None and (key := session.settings.value(key_variable(name))) is not None:
        return key
    if key := session.settings.logins.of(address).get("api_key"):
        return key
    return session.server.key if address == session.server.url else None


def _folder(url: str) -> Path:
    text = url.removeprefix("file:")
    path = Path(unquote(text.removeprefix("//") if text.startswith("///") else text))
    if not str(text):
        raise CliError(f"{url!r} names no folder: write file:/FOLDER", Exit.USAGE)
    return Path.cwd() / path
