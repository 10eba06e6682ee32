"""The SQLite file: transactions, and the rows of repos, prompts, templates, targets and bakes.

Jobs, checkpoints, the bin and users have tables of their own: `store.jobs`, `store.checkpoints`, `store.bin`,
`store.users`. What may change is decided in `baker/repos`. Everything here blocks and belongs to one thread: async code
goes through `one_thread.OneThread`, so that thread is the file's only writer.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from sqlite_utils import Database

from baker.errors import disk_error
from baker.storage.bin_table import BinTable
from baker.storage.checkpoint_table import CheckpointTable
from baker.storage.home import DATABASE
from baker.storage.job_table import JobTable
from baker.storage.migrations import MIGRATIONS
from baker.storage.rows import Row, Rows, to_json
from baker.storage.user_table import UserTable
from baker.types import Prompt, Repo

ConfigTable = Literal["targets", "bakes"]
NamedTable = Literal["prompts", "targets", "bakes", "templates"]

IN_REPO = (
    "prompts",
    "templates",
    "targets",
    "bakes",
    "commits",
    "notes",
    "refs",
    "operations",
    "moves",
    "probes",
    "comparisons",
    "remotes",
)
RECORDED = ("jobs", "checkpoints")
"""Tables with rows of repos, by the columns `user` and `repo`. Rows of RECORDED may outlive their repo as records."""
DISK_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
BUSY_SECONDS = 10  # another process (a backup, a shell) may hold the file for a moment


class Store:
    def __init__(self, home: Path) -> None:
        """Open or create `home/bread.db` and bring its schema up to date.

        WAL with synchronous=NORMAL: a committed row survives kill -9. A power cut may undo the last commits, but never
        corrupts the file.
        """
        self.home = home
        # Autocommit: only `transaction` begins a transaction.
        self._db = Database(sqlite3.connect(home / DATABASE, timeout=BUSY_SECONDS, isolation_level=None))
        self._db.enable_wal()
        self._db.execute("pragma synchronous = normal")
        MIGRATIONS.apply(self._db)
        self.rows = Rows(self._db)
        self.users = UserTable(self.rows)
        self.jobs = JobTable(self.rows)
        self.checkpoints = CheckpointTable(self.rows, home)
        self.bin = BinTable(self.rows)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block, or none if it raises. Raises: DiskError if the disk is full or fails."""
        try:
            with self._db.atomic():
                yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in DISK_CODES:
                code = errno.ENOSPC if error.sqlite_errorcode == sqlite3.SQLITE_FULL else errno.EIO
                raise disk_error(OSError(code, str(error))) from error
            raise

    # Repos

    def add_repo(self, user: str, repo: Repo) -> None:
        self.rows.insert("repos", {"user": user, **msgspec.structs.asdict(repo)})

    def repo(self, user: str, name: str) -> Repo | None:
        row = self.rows.one("select * from repos where user = ? and name = ?", user, name)
        return None if row is None else _repo(row)

    def repos(self, user: str) -> list[Repo]:
        return [_repo(row) for row in self.rows.all("select * from repos where user = ? order by rowid", user)]

    def all_repos(self) -> list[tuple[str, str]]:
        """(user, name) of the repos of all users."""
        return [(row["user"], row["name"]) for row in self.rows.all("select user, name from repos order by rowid")]

    def owners(self, name: str, first: str) -> list[str]:
        """Users that have a repo of that name, at most two. If `first` is one of them, it comes first."""
        rows = self.rows.all("select user from repos where name = ? order by user = ? desc limit 2", name, first)
        return [row["user"] for row in rows]

    def remove_repo(self, user: str, name: str) -> list[int]:
        """Remove the repo and all in it, except jobs and checkpoints that are marked as deleted.

        Returns: the numbers of the removed jobs.
        """
        where = "user = ? and repo = ?"
        rows = self.rows.all(f"select id from jobs where {where} and deleted is null order by id", user, name)
        for table in IN_REPO:
            self.rows.execute(f"delete from {table} where {where}", user, name)
        for table in RECORDED:
            self.rows.execute(f"delete from {table} where {where} and deleted is null", user, name)
        self.rows.execute("delete from repos where user = ? and name = ?", user, name)
        return [row["id"] for row in rows]

    def remove_records(self, user: str) -> list[int]:
        """Remove the user's jobs and checkpoints that are marked as deleted. Returns: the numbers of the jobs."""
        where = "user = ? and deleted is not null"
        removed = [row["id"] for row in self.rows.all(f"select id from jobs where {where}", user)]
        for table in RECORDED:
            self.rows.execute(f"delete from {table} where {where}", user)
        return removed

    # Prompts

    def put_prompt(self, user: str, repo: str, name: str, prompt: Prompt) -> None:
        self.rows.put(
            "prompts",
            (user, repo, name),
            messages=to_json(prompt.messages),
            tools=None if prompt.tools is None else to_json(prompt.tools),
        )

    def prompt(self, user: str, repo: str, name: str) -> Prompt | None:
        row = self.rows.one("select * from prompts where user = ? and repo = ? and name = ?", user, repo, name)
        if row is None:
            return None
        tools = row["tools"]
        return Prompt(
            messages=msgspec.json.decode(row["messages"]),
            tools=None if tools is None else msgspec.json.decode(tools),
        )

    # Templates: texts that ask a model for questions

    def put_template(self, user: str, repo: str, name: str, content: str) -> None:
        self.rows.put("templates", (user, repo, name), content=content)

    def template(self, user: str, repo: str, name: str) -> str | None:
        row = self.rows.one("select content from templates where user = ? and repo = ? and name = ?", user, repo, name)
        return None if row is None else str(row["content"])

    # Targets and bakes: a name and a config

    def put_config(self, table: ConfigTable, user: str, repo: str, name: str, config: Row) -> None:
        self.rows.put(table, (user, repo, name), config=to_json(config))

    def config(self, table: ConfigTable, user: str, repo: str, name: str) -> Row | None:
        row = self.rows.one(f"select config from {table} where user = ? and repo = ? and name = ?", user, repo, name)
        if row is None:
            return None
        config: Row = msgspec.json.decode(row["config"])
        return config

    def configs(self, table: ConfigTable, user: str, repo: str) -> dict[str, str]:
        """Name -> config as JSON, in order of creation."""
        rows = self.rows.all(f"select name, config from {table} where user = ? and repo = ? order by rowid", user, repo)
        return {row["name"]: row["config"] for row in rows}

    def created(self, table: ConfigTable, user: str, repo: str, name: str) -> int | None:
        """Unix seconds; None if there is no row of that name."""
        row = self.rows.one(f"select created from {table} where user = ? and repo = ? and name = ?", user, repo, name)
        return None if row is None else int(row["created"])

    def all_created(self, table: ConfigTable, user: str, repo: str) -> dict[str, int]:
        """Name -> Unix seconds."""
        rows = self.rows.all(f"select name, created from {table} where user = ? and repo = ?", user, repo)
        return {row["name"]: row["created"] for row in rows}

    def names(self, table: NamedTable, user: str, repo: str) -> list[str]:
        """Names in order of creation."""
        rows = self.rows.all(f"select name from {table} where user = ? and repo = ? order by rowid", user, repo)
        return [row["name"] for row in rows]

    def remove(self, table: NamedTable, user: str, repo: str, name: str) -> bool:
        return self.rows.execute(f"delete from {table} where user = ? and repo = ? and name = ?", user, repo, name) > 0


def _repo(row: Row) -> Repo:
    return Repo(name=row["name"], base_model=row["base_model"], created=row["created"])
