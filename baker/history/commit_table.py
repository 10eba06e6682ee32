"""Rows of commits and of the notes beside them. A commit never changes; notes may."""

from typing import Any

import msgspec

from baker.history.commit import Commit, Parent
from baker.history.comparison_table import ComparisonTable
from baker.storage.rows import Row, Rows, to_json


class CommitTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def add(self, user: str, repo: str, commit: Commit) -> str:
        """Add the commit to the repo, if it is not there. Returns: its id."""
        commit_id = commit.id
        if self.find(user, repo, commit_id) is None:
            row = {**msgspec.to_builtins(commit), "parents": to_json(commit.parents)}
            self._rows.insert("commits", {"user": user, "repo": repo, "id": commit_id, **row})
        return commit_id

    def arrive(self, user: str, repo: str, commit_id: str, now: int) -> None:
        """Note that another server's copy of the commit came now (Unix seconds)."""
        self._rows.execute(
            "update commits set arrived = ? where user = ? and repo = ? and id = ?", now, user, repo, commit_id
        )

    def arrived_since(self, user: str, repo: str, since: float) -> list[str]:
        """Ids of the commits that came from another server after `since` (Unix seconds)."""
        rows = self._rows.all("select id from commits where user = ? and repo = ? and arrived > ?", user, repo, since)
        return [row["id"] for row in rows]

    def find(self, user: str, repo: str, commit_id: str) -> Commit | None:
        row = self._rows.one("select * from commits where user = ? and repo = ? and id = ?", user, repo, commit_id)
        return None if row is None else _commit(row)

    def of_repo(self, user: str, repo: str) -> dict[str, Commit]:
        """Id -> commit, in the order in which they were added: parents before children."""
        rows = self._rows.all("select * from commits where user = ? and repo = ? order by number", user, repo)
        return {row["id"]: _commit(row) for row in rows}

    def parents(self, user: str, repo: str) -> dict[str, tuple[str, ...]]:
        """Id -> ids of its parents, in the order in which the commits were added: parents before children."""
        rows = self._rows.all("select id, parents from commits where user = ? and repo = ? order by number", user, repo)
        decoder = msgspec.json.Decoder(list[Parent])
        return {row["id"]: tuple(parent.id for parent in decoder.decode(row["parents"])) for row in rows}

    def parents_elsewhere(self, user: str, repo: str) -> set[str]:
        """Ids of the parents of all commits in other repos, of any user."""
        rows = self._rows.all("select parents from commits where user != ? or repo != ?", user, repo)
        decoder = msgspec.json.Decoder(list[Parent])
        return {parent.id for row in rows for parent in decoder.decode(row["parents"])}

    def remove(self, user: str, repo: str, commit_id: str) -> None:
        """Remove the commit, its notes, and what was compared with it."""
        self._rows.execute("delete from commits where user = ? and repo = ? and id = ?", user, repo, commit_id)
        self._rows.execute("delete from notes where user = ? and repo = ? and commit_id = ?", user, repo, commit_id)
        ComparisonTable(self._rows).remove_of(user, repo, commit_id)

    # Notes

    def put_note(self, user: str, repo: str, commit_id: str, key: str, value: Any) -> None:
        """Add or replace a note: JSON that belongs to a commit and may change."""
        row = {"user": user, "repo": repo, "commit_id": commit_id, "key": key, "value": to_json(value)}
        self._rows.insert("notes", row, replace=True)

    def notes(self, user: str, repo: str, commit_id: str) -> dict[str, Any]:
        rows = self._rows.all(
            "select * from notes where user = ? and repo = ? and commit_id = ? order by key", user, repo, commit_id
        )
        return {row["key"]: msgspec.json.decode(row["value"]) for row in rows}

    def all_notes(self, user: str, repo: str) -> dict[str, dict[str, Any]]:
        """Id of a commit -> its notes."""
        notes: dict[str, dict[str, Any]] = {}
        for row in self._rows.all("select * from notes where user = ? and repo = ? order by key", user, repo):
            notes.setdefault(row["commit_id"], {})[row["key"]] = msgspec.json.decode(row["value"])
        return notes


def _commit(row: Row) -> Commit:
    fields = {name: row[name] for name in Commit.__struct_fields__}
    return msgspec.convert({**fields, "parents": msgspec.json.decode(row["parents"])}, Commit)
