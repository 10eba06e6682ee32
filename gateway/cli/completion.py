"""Names that the shell completes: repos, refs and models, asked of the server. Silent if it does not answer."""

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial

import click

from gateway.cli.client import Client
from gateway.cli.session import Session, path_of
from gateway.cli.text import harmless

TIMEOUT_SECONDS = 1.0
"""A person waits for it."""


def complete_repo(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    return _matching(context, typed, _repos)


def complete_name(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Refs: of the repo that the typed text begins with, else of the current repo, and the repos."""
    return _matching(context, typed, partial(_names, typed=typed))


def complete_model(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    return _matching(context, typed, _models)


def complete_bake(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    return _matching(context, typed, partial(_bakes, typed=typed))


def _matching(context: click.Context, typed: str, names: Callable[[Session], Iterable[str]]) -> list[str]:
    with suppress(Exception), closing(_session(context)) as session:  # a message would garble the line being typed
        return [name for name in names(session) if name.startswith(typed) and name.isprintable() and " " not in name]
    return []


def _session(context: click.Context) -> Session:
    """While the shell completes, no verb has run, so there is no session yet."""
    session = context.find_object(Session) or Session()
    root = context.find_root().params
    session.url, session.user = root.get("base_url"), root.get("user")
    return session


def _repos(session: Session) -> list[str]:
    return list(session.client.get("/v1/repo", timeout=TIMEOUT_SECONDS)["repos"])


def _names(session: Session, typed: str) -> list[str]:
    repos = _repos(session)
    repo, slash, _ = typed.partition("/")
    if slash and repo in repos:
        return [f"{repo}/{name}" for name in _refs(session.client, repo)]
    current = session.settings.repo(session.server.url) or (repos[0] if len(repos) == 1 else None)
    refs = _refs(session.client, current) if current in repos and current is not None else []
    return [*refs, *(f"{name}/" for name in repos)]


def _refs(client: Client, repo: str) -> list[str]:
    refs = client.get(path_of(repo, "refs"), timeout=TIMEOUT_SECONDS)["refs"]
    return ["HEAD", *(ref["name"] for ref in refs)]


def _bakes(session: Session, typed: str) -> list[str]:
    repos = _repos(session)
    repo, slash, _ = typed.partition("/")
    if slash and repo in repos:
        answer = session.client.get(path_of(repo, "bakes"), timeout=TIMEOUT_SECONDS)
        return [f"{repo}/{name}" for name in answer["bakes"]]
    return [f"{name}/" for name in repos]


def _models(session: Session) -> list[str]:
    models = session.client.get("/v1/models", timeout=TIMEOUT_SECONDS)["data"]
    return [harmless(model["id"]) for model in models]
