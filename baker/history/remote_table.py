"""Rows of remotes: other places that a repo's commits are copied to and from. Keys are never stored here."""

import time

import msgspec

from baker.storage.rows import Row, Rows


class Remote(msgspec.Struct, frozen=True):
    name: str
    url: str
    created: int = 0
    """Unix seconds, like `updated`."""
    updated: int = 0


class RemoteTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def put(self, user: str, repo: str, remote: Remote) -> None:
        """Add the remote, or give the one of that name another URL."""
        now = int(time.time())
        row = {**msgspec.to_builtins(remote), "created": remote.created or now, "updated": now}
        self._rows.insert("remotes", {"user": user, "repo": repo, **row}, replace=True)

    def find(self, user: str, repo: str, name: str) -> Remote | None:
        row = self._rows.one("select * from remotes where user = ? and repo = ? and name = ?", user, repo, name)
        return None if row is None else _remote(row)

    def of_repo(self, user: str, repo: str) -> list[Remote]:
        """By name."""
        rows = self._rows.all("select * from remotes where user = ? and repo = ? order by name", user, repo)
        return [_remote(row) for row in rows]

    def remove(self, user: str, repo: str, name: str) -> bool:
        return self._rows.execute("delete from remotes where user = ? and repo = ? and name = ?", user, repo, name) > 0


def _remote(row: Row) -> Remote:
    return msgspec.convert({name: row[name] for name in Remote.__struct_fields__}, Remote)
