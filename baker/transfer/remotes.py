"""Remotes: other places that a repo is copied to and from, and the names that they had when they were last asked.

The service asks no other server: a client copies between two, and records here what it saw. Functions over the catalog,
each one transaction; they block (see `storage/one_thread.py`).
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from baker.errors import ConfigError, NotFoundError
from baker.history.operation_table import Change
from baker.history.ref_table import Ref, RefKind
from baker.history.remote_table import Remote
from baker.names import check_name
from baker.repos.catalog import Catalog
from baker.suggestions import did_you_mean

MAX_URL = 2_000
MOST_REMOTES, MOST_NAMES = 100, 10_000
"""Limits: remotes of a repo, and names of one remote."""
SCHEMES = ("http", "https", "file", "hf")


class Tracked(NamedTuple):
    """A remote with its names as they were when it was last asked."""

    remote: Remote
    refs: dict[str, str]
    """Name there -> id of its commit."""


def put(catalog: Catalog, user: str, repo: str, name: str, url: str) -> Tracked:
    """Add the remote, or give it another URL. Raises: ConfigError; NotFoundError if there is no such repo."""
    check_name(name, "remote")
    _check_url(url)
    with catalog.store.transaction():
        catalog.repo(user, repo)
        known = catalog.history.remotes.find(user, repo, name)
        if known is None and len(catalog.history.remotes.of_repo(user, repo)) >= MOST_REMOTES:
            raise ConfigError(f"repo {repo!r} has {MOST_REMOTES} remotes, the most it may have: delete one first")
        if known is None or known.url != url:
            created = 0 if known is None else known.created
            catalog.history.remotes.put(user, repo, Remote(name, url, created))
        return get(catalog, user, repo, name)


def get(catalog: Catalog, user: str, repo: str, name: str) -> Tracked:
    """Raises: NotFoundError."""
    catalog.repo(user, repo)
    remote = catalog.history.remotes.find(user, repo, name)
    if remote is None:
        known = [each.name for each in catalog.history.remotes.of_repo(user, repo)]
        raise NotFoundError(f"Remote {name!r:.140} not found in repo {repo!r}{did_you_mean(name, known)}")
    prefix = f"{name}/"
    refs = catalog.history.refs.of_repo(user, repo)
    return Tracked(remote, {ref.name.removeprefix(prefix): ref.target for ref in refs if _is_of(ref, prefix)})


def listing(catalog: Catalog, user: str, repo: str) -> list[Tracked]:
    """By name. Raises: NotFoundError if there is no such repo."""
    catalog.repo(user, repo)
    return [get(catalog, user, repo, remote.name) for remote in catalog.history.remotes.of_repo(user, repo)]


def remove(catalog: Catalog, user: str, repo: str, name: str) -> None:
    """Remove the remote and its names. Raises: NotFoundError."""
    with catalog.store.transaction():
        tracked = get(catalog, user, repo, name)
        _record(catalog, user, repo, name, dict.fromkeys(tracked.refs), "remote-remove")
        catalog.history.remotes.remove(user, repo, name)


def track(catalog: Catalog, user: str, repo: str, name: str, refs: dict[str, str | None], verb: str) -> Tracked:
    """Record where the remote's names were seen. Others that are known stay.

    Args:
        refs: name there -> id of a commit of this repo; None: it is gone there.
        verb: `push` or `fetch`. The operation can't be undone: the other server would not follow.
    Raises: ConfigError; NotFoundError if there is no such remote or commit.
    """
    with catalog.store.transaction():
        tracked = get(catalog, user, repo, name)
        after = {**tracked.refs, **refs}
        if (count := sum(commit is not None for commit in after.values())) > MOST_NAMES:
            raise ConfigError(f"remote {name!r} would have {count} names, at most {MOST_NAMES} are allowed")
        for ref, commit in refs.items():
            check_name(ref, "ref")
            if commit is not None and catalog.history.commits.find(user, repo, commit) is None:
                raise NotFoundError(f"{ref!r} would mean commit {commit!r:.80}, which repo {repo!r} does not have")
        _record(catalog, user, repo, name, refs, verb)
        return get(catalog, user, repo, name)


def _record(catalog: Catalog, user: str, repo: str, name: str, refs: dict[str, str | None], verb: str) -> None:
    changes = []
    for ref, commit in refs.items():
        full = f"{name}/{ref}"
        known = catalog.history.refs.find(user, repo, full)
        before = None if known is None else known.target
        if before == commit:
            continue
        changes.append(Change("remote", full, before, commit))
        if commit is None:
            catalog.history.refs.remove(user, repo, full)
        else:
            created = 0 if known is None else known.created
            catalog.history.refs.put(user, repo, Ref(full, RefKind.REMOTE, commit, created=created))
    catalog.history.log.record(user, repo, verb, changes, is_undoable=False)


def _is_of(ref: Ref, prefix: str) -> bool:
    return ref.kind is RefKind.REMOTE and ref.name.startswith(prefix)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        has_key = parts.username is not None or parts.password is not None
    except ValueError as error:
        raise ConfigError(f"url {url!r:.200} is not a URL: {error}") from error
    if parts.scheme not in SCHEMES or len(url) > MAX_URL or not url.isprintable():
        raise ConfigError(
            f"url {url!r:.200} is not one of {', '.join(f'{scheme}:' for scheme in SCHEMES)} with at most "
            f"{MAX_URL} characters"
        )
    if has_key or parts.query:
        raise ConfigError("url holds a name, a password or a query: keys of other servers stay on the client")
