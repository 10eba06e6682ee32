"""Rows of the SQLite file: queries and inserts that the tables share."""

import time
from typing import Any

import msgspec
from sqlite_utils import Database

Row = dict[str, Any]


class Rows:
    """Reads and writes rows of one open file. Blocks."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self, sql: str, *parameters: Any) -> list[Row]:
        return list(self._db.query(sql, parameters))

    def one(self, sql: str, *parameters: Any) -> Row | None:
        return next(iter(self._db.query(sql, parameters)), None)

    def execute(self, sql: str, *parameters: Any) -> int:
        """Returns: the number of rows that it changed."""
        return self._db.execute(sql, parameters).rowcount

    def insert(self, table: str, row: Row, *, replace: bool = False) -> int:
        """The new row's number. Args: replace: whether the row may take the place of one with the same key."""
        rowid = self._db.table(table).insert(row, replace=replace).last_rowid
        assert rowid is not None
        return rowid

    def update(self, table: str, key: int, changes: Row) -> None:
        """Raises: NotFoundError of sqlite_utils if there is no such row."""
        self._db.table(table).update(key, changes)

    def put(self, table: str, key: tuple[str, str, str], **columns: Any) -> None:
        """Add the row of `key` (user, repo, name), or change these columns of it."""
        assignments = ", ".join(f"{column} = excluded.{column}" for column in columns)
        names = ", ".join(("user", "repo", "name", *columns, "created"))
        marks = ", ".join("?" for _ in range(len(columns) + 4))
        self.execute(
            f"insert into {table} ({names}) values ({marks}) "
            f"on conflict (user, repo, name) do update set {assignments}",
            *key,
            *columns.values(),
            int(time.time()),
        )


def to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
