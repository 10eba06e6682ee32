"""Rows of finished comparisons. What was once measured between two versions stays the answer: an engine that computes
other requests beside them rounds differently."""

import time
from typing import Any

import msgspec

from baker.storage.rows import Rows, to_json

MOST_OF_A_REPO = 2000
"""Rows kept for each repo; the oldest go first. A row has a few kilobytes."""


class ComparisonTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def find(self, user: str, repo: str, key: str) -> Any:
        """The result with this key, as JSON; None if there is none."""
        row = self._rows.one("select result from comparisons where user = ? and repo = ? and key = ?", user, repo, key)
        return None if row is None else msgspec.json.decode(row["result"])

    def keep(self, user: str, repo: str, key: str, a: str, b: str, result: Any) -> Any:
        """Store a complete result, unless there is one. Returns: the stored one.

        Args: key: hash of everything that the result depends on; a, b: ids of the compared commits, for `remove_of`.
        """
        self._rows.execute(
            "insert or ignore into comparisons (user, repo, key, a, b, result, created) values (?, ?, ?, ?, ?, ?, ?)",
            user,
            repo,
            key,
            a,
            b,
            to_json(result),
            int(time.time()),
        )
        self._rows.execute(
            "delete from comparisons where user = ? and repo = ? and rowid not in "
            "(select rowid from comparisons where user = ? and repo = ? order by rowid desc limit ?)",
            user,
            repo,
            user,
            repo,
            MOST_OF_A_REPO,
        )
        return self.find(user, repo, key)

    def remove_of(self, user: str, repo: str, commit_id: str) -> None:
        """Remove all comparisons with that commit."""
        self._rows.execute("delete from comparisons where user = ? and repo = ? and ? in (a, b)", user, repo, commit_id)
