"""The SQLite file: rows in, values out.

Owns tables and transactions; the rules of what may change are in `catalog.py`. Everything here blocks and belongs to
one thread: async code goes through `threads.OneThread`, which makes that thread the file's only writer.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from sqlite_utils import Database

from baker.status import JobState, Stage
from baker.storage.credentials import Key, PasswordHash
from baker.storage.job import AnyJob, BakeJob, Job, RolloutJob, StimJob
from baker.storage.migrations import MIGRATIONS
from baker.types import Checkpoint, MovedBy, Prompt, Repo, User

ConfigTable = Literal["targets", "bakes"]
NamedTable = Literal["prompts", "targets", "bakes", "templates"]
Row = dict[str, Any]
Kind = TypeVar("Kind", bound=Job)

IN_REPO = ("prompts", "templates", "targets", "bakes", "jobs", "checkpoints")
"""Tables whose rows belong to a repo, by the columns `user` and `repo`."""
JSON_COLUMNS = ("config", "inputs", "depends_on", "warnings", "loss", "collation", "memory")
BUSY_SECONDS = 10  # another process (a backup, a shell) may hold the file for a moment


class JobCount(NamedTuple):
    stage: Stage
    state: JobState
    jobs: int
    items: int
    """What they made so far: stimuli, trajectories, rows of metrics."""


class Move(NamedTuple):
    """To where a bake's name was moved, and by what."""

    checkpoint: Checkpoint
    by: MovedBy


class Store:
    def __init__(self, home: Path) -> None:
        """Open or make `home/bread.db`, with its schema brought up to date.

        WAL with synchronous=NORMAL: a committed row outlives kill -9; a power cut may undo the last ones, never
        corrupt the file.
        """
        self.home = home
        # Autocommit: a transaction is begun only by `transaction`.
        self._db = Database(sqlite3.connect(home / "bread.db", timeout=BUSY_SECONDS, isolation_level=None))
        self._db.enable_wal()
        self._db.execute("pragma synchronous = normal")
        MIGRATIONS.apply(self._db)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of the writes inside."""
        with self._db.atomic():
            yield

    # Users and their keys

    def add_user(self, user: User, password: PasswordHash) -> None:
        row = msgspec.structs.asdict(user)
        self._insert("users", **row, password_salt=password.salt, password_digest=password.digest)

    def user(self, user_id: str) -> tuple[User, PasswordHash] | None:
        row = self._one("select * from users where id = ?", user_id)
        return None if row is None else (_user(row), PasswordHash(row["password_salt"], row["password_digest"]))

    def users(self) -> list[User]:
        """In order of creation."""
        return [_user(row) for row in self._all("select * from users order by rowid")]

    def remove_user(self, user_id: str) -> None:
        """The user and its keys."""
        self._db.execute("delete from keys where user = ?", [user_id])
        self._db.execute("delete from users where id = ?", [user_id])

    def add_key(self, key: Key) -> None:
        self._insert("keys", **msgspec.structs.asdict(key))

    def all_keys(self) -> list[Key]:
        """Everybody's, in order of creation."""
        return [Key(**row) for row in self._all("select * from keys order by rowid")]

    def remove_key(self, user_id: str, key_id: str) -> bool:
        return self._db.execute("delete from keys where user = ? and id = ?", [user_id, key_id]).rowcount > 0

    # Repos

    def add_repo(self, user: str, repo: Repo) -> None:
        self._insert("repos", user=user, name=repo.name, base_model=repo.base_model, created=repo.created)

    def repo(self, user: str, name: str) -> Repo | None:
        row = self._one("select * from repos where user = ? and name = ?", user, name)
        return None if row is None else _repo(row)

    def repos(self, user: str) -> list[Repo]:
        return [_repo(row) for row in self._all("select * from repos where user = ? order by rowid", user)]

    def owners(self, name: str, first: str) -> list[str]:
        """Who has a repo of that name, at most two of them; `first` stands first."""
        rows = self._all("select user from repos where name = ? order by user = ? desc limit 2", name, first)
        return [row["user"] for row in rows]

    def remove_repo(self, user: str, name: str) -> list[int]:
        """The repo and all in it. Returns: the numbers of the jobs that were removed."""
        removed = [
            row["id"] for row in self._all("select id from jobs where user = ? and repo = ? order by id", user, name)
        ]
        for table in IN_REPO:
            self._db.execute(f"delete from {table} where user = ? and repo = ?", [user, name])
        self._db.execute("delete from repos where user = ? and name = ?", [user, name])
        return removed

    # Prompts

    def put_prompt(self, user: str, repo: str, name: str, prompt: Prompt) -> None:
        self._put(
            "prompts",
            (user, repo, name),
            messages=_json(prompt.messages),
            tools=None if prompt.tools is None else _json(prompt.tools),
        )

    def prompt(self, user: str, repo: str, name: str) -> Prompt | None:
        row = self._one("select * from prompts where user = ? and repo = ? and name = ?", user, repo, name)
        if row is None:
            return None
        tools = row["tools"]
        return Prompt(
            messages=msgspec.json.decode(row["messages"]),
            tools=None if tools is None else msgspec.json.decode(tools),
        )

    # Templates: texts that ask for questions

    def put_template(self, user: str, repo: str, name: str, content: str) -> None:
        self._put("templates", (user, repo, name), content=content)

    def template(self, user: str, repo: str, name: str) -> str | None:
        row = self._one("select content from templates where user = ? and repo = ? and name = ?", user, repo, name)
        return None if row is None else str(row["content"])

    # Targets and bakes: a name and a config

    def put_config(self, table: ConfigTable, user: str, repo: str, name: str, config: Row) -> None:
        self._put(table, (user, repo, name), config=_json(config))

    def config(self, table: ConfigTable, user: str, repo: str, name: str) -> Row | None:
        row = self._one(f"select config from {table} where user = ? and repo = ? and name = ?", user, repo, name)
        if row is None:
            return None
        config: Row = msgspec.json.decode(row["config"])
        return config

    def names(self, table: NamedTable, user: str, repo: str) -> list[str]:
        """In order of creation."""
        rows = self._all(f"select name from {table} where user = ? and repo = ? order by rowid", user, repo)
        return [row["name"] for row in rows]

    def remove(self, table: Literal["prompts", "targets", "bakes"], user: str, repo: str, name: str) -> bool:
        cursor = self._db.execute(f"delete from {table} where user = ? and repo = ? and name = ?", [user, repo, name])
        return cursor.rowcount > 0

    # Jobs

    def add_job(self, job: Kind) -> Kind:
        """The job with its new number."""
        return msgspec.structs.replace(job, id=self._insert("jobs", **_job_row(job)))

    def update_job(self, job_id: int, **changes: Any) -> None:
        self._db.table("jobs").update(
            job_id, {key: _json(value) if key in JSON_COLUMNS else value for key, value in changes.items()}
        )

    def job(self, job_id: int) -> AnyJob | None:
        row = self._one("select * from jobs where id = ?", job_id)
        return None if row is None else _job(row)

    def bake_job(self, job_id: int) -> BakeJob | None:
        """The job of that number, if it is a bake's."""
        row = self._one("select * from jobs where id = ? and stage = ?", job_id, Stage.BAKE)
        return None if row is None else _decoded(row, BakeJob)

    def latest_job(self, stage: Stage, user: str, repo: str, name: str) -> AnyJob | None:
        row = self._latest(stage, user, repo, name)
        return None if row is None else _job(row)

    def latest_stim(self, user: str, repo: str, target: str) -> StimJob | None:
        row = self._latest(Stage.STIM, user, repo, target)
        return None if row is None else _decoded(row, StimJob)

    def latest_rollout(self, user: str, repo: str, target: str) -> RolloutJob | None:
        row = self._latest(Stage.ROLLOUT, user, repo, target)
        return None if row is None else _decoded(row, RolloutJob)

    def latest_bake(self, user: str, repo: str, bake: str) -> BakeJob | None:
        row = self._latest(Stage.BAKE, user, repo, bake)
        return None if row is None else _decoded(row, BakeJob)

    def _latest(self, *key: str) -> Row | None:
        return self._one(
            "select * from jobs where stage = ? and user = ? and repo = ? and name = ? order by id desc limit 1", *key
        )

    def bake_before(self, job: BakeJob) -> BakeJob | None:
        """The run of the same bake before `job`."""
        row = self._one(
            "select * from jobs where stage = ? and user = ? and repo = ? and name = ? and id < ? "
            "order by id desc limit 1",
            job.stage,
            job.user,
            job.repo,
            job.name,
            job.id,
        )
        return None if row is None else _decoded(row, BakeJob)

    def jobs_in(self, *states: JobState) -> list[AnyJob]:
        """Jobs of all users in these states, in order of creation."""
        marks = ", ".join("?" for _ in states)
        return [_job(row) for row in self._all(f"select * from jobs where state in ({marks}) order by id", *states)]

    def last_completed_bake(self) -> BakeJob | None:
        """The bake that was completed last, of all users."""
        row = self._one(
            "select * from jobs where stage = ? and state = ? order by finished desc, id desc limit 1",
            Stage.BAKE,
            JobState.COMPLETE,
        )
        return None if row is None else _decoded(row, BakeJob)

    def job_numbers(self) -> set[int]:
        return {row["id"] for row in self._all("select id from jobs")}

    def count_jobs(self) -> list[JobCount]:
        """How many jobs of each stage are in each state, and the items they made; what there is none of is left out."""
        rows = self._all("select stage, state, count(*) as n, sum(lines) as items from jobs group by stage, state")
        return [JobCount(Stage(row["stage"]), JobState(row["state"]), row["n"], row["items"]) for row in rows]

    def remove_jobs(self, user: str, repo: str, name: str, stages: tuple[Stage, ...]) -> list[int]:
        """The numbers of the jobs that were removed."""
        marks = ", ".join("?" for _ in stages)
        where = f"user = ? and repo = ? and name = ? and stage in ({marks})"
        parameters = [user, repo, name, *stages]
        removed = [row["id"] for row in self._all(f"select id from jobs where {where}", *parameters)]
        self._db.execute(f"delete from jobs where {where}", parameters)
        return removed

    # Checkpoints

    def add_checkpoint(self, checkpoint: Checkpoint, *, moves_name: bool = True) -> None:
        """In place of one of that name. Args: moves_name: whether the bake's name means it from here on."""
        row = msgspec.structs.asdict(checkpoint)
        # Relative, so that the folder can be moved to another disk or machine.
        row["path"] = str(checkpoint.path.relative_to(self.home))
        self._db.table("checkpoints").insert(row, replace=True)
        if moves_name:
            self.move_name(checkpoint, MovedBy.BAKE)

    def move_name(self, checkpoint: Checkpoint, by: MovedBy) -> None:
        """Let its bake's name mean this checkpoint, which has a row."""
        self._db.execute(
            "update checkpoints set moved = (select coalesce(max(moved), 0) + 1 from checkpoints), moved_by = ? "
            "where user = ? and repo = ? and bake = ? and step = ?",
            [by, checkpoint.user, checkpoint.repo, checkpoint.bake, checkpoint.step],
        )

    def moves(self, user: str, repo: str, bake: str) -> list[Move]:
        """The checkpoints that the bake's name was moved to and that are still there, the latest move first: that is
        what the name means."""
        rows = self._all(
            "select * from checkpoints where user = ? and repo = ? and bake = ? and moved is not null "
            "order by moved desc",
            user,
            repo,
            bake,
        )
        return [Move(self._checkpoint(row), MovedBy(row["moved_by"])) for row in rows]

    def all_moved(self) -> list[Checkpoint]:
        """Those of all bakes that a name was moved to, the latest first."""
        rows = self._all("select * from checkpoints where moved is not null order by moved desc")
        return [self._checkpoint(row) for row in rows]

    def checkpoints(self, user: str, repo: str, bake: str) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("where user = ? and repo = ? and bake = ?", user, repo, bake)

    def checkpoints_of(self, user: str) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("where user = ?", user)

    def all_checkpoints(self) -> list[Checkpoint]:
        """Newest first."""
        return self._checkpoints("")

    def remove_checkpoints(self, user: str, repo: str, bake: str) -> None:
        self._db.execute("delete from checkpoints where user = ? and repo = ? and bake = ?", [user, repo, bake])

    def remove_checkpoint(self, checkpoint: Checkpoint) -> None:
        key = [checkpoint.user, checkpoint.repo, checkpoint.bake, checkpoint.step]
        self._db.execute("delete from checkpoints where user = ? and repo = ? and bake = ? and step = ?", key)

    def hand_over_checkpoints(self, old_job: int, new_job: int) -> None:
        self._db.execute("update checkpoints set job_id = ? where job_id = ?", [new_job, old_job])

    def _checkpoints(self, where: str, *parameters: str) -> list[Checkpoint]:
        rows = self._all(f"select * from checkpoints {where} order by job_id desc, step desc", *parameters)
        return [self._checkpoint(row) for row in rows]

    def _checkpoint(self, row: Row) -> Checkpoint:
        fields = {name: row[name] for name in Checkpoint.__struct_fields__}
        return Checkpoint(**{**fields, "path": self.home / row["path"], "is_served": bool(row["is_served"])})

    def _insert(self, table: str, **row: Any) -> int:
        rowid = self._db.table(table).insert(row).last_rowid
        assert rowid is not None
        return rowid

    def _put(self, table: str, key: tuple[str, str, str], **columns: Any) -> None:
        assignments = ", ".join(f"{column} = excluded.{column}" for column in columns)
        names = ", ".join(("user", "repo", "name", *columns, "created"))
        marks = ", ".join("?" for _ in range(len(columns) + 4))
        self._db.execute(
            f"insert into {table} ({names}) values ({marks}) "
            f"on conflict (user, repo, name) do update set {assignments}",
            [*key, *columns.values(), int(time.time())],
        )

    def _all(self, sql: str, *parameters: Any) -> list[Row]:
        return list(self._db.query(sql, parameters))

    def _one(self, sql: str, *parameters: Any) -> Row | None:
        return next(iter(self._db.query(sql, parameters)), None)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _user(row: Row) -> User:
    return User(id=row["id"], alias=row["alias"], email=row["email"], created=row["created"])


def _repo(row: Row) -> Repo:
    return Repo(name=row["name"], base_model=row["base_model"], created=row["created"])


def _job_row(job: Job) -> Row:
    row = {**msgspec.structs.asdict(job), "stage": job.stage}
    del row["id"]
    return {key: _json(value) if key in JSON_COLUMNS else value for key, value in row.items()}


def _job(row: Row) -> AnyJob:
    job: AnyJob = msgspec.convert(_values(row), AnyJob)
    return job


def _decoded(row: Row, kind: type[Kind]) -> Kind:
    return msgspec.convert(_values(row), kind)


def _values(row: Row) -> Row:
    return {
        key: msgspec.json.decode(value) if key in JSON_COLUMNS and value is not None else value
        for key, value in row.items()
    }
