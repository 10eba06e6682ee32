"""Rows of jobs, decoded into one class for each stage. Which job may run is decided in `baker/jobs`.

Every method that returns jobs raises StageError for a row that this version can't decode; `in_state` leaves it out.
A row that is marked as deleted is in the bin (see `repos/recycle_bin.py`), or the record of a bake that others began
from (see `repos/records.py`). Only the methods that take a job's number, and those that say so, read such rows.
"""

import logging
import time
from typing import Any, NamedTuple, TypeVar

import msgspec

from baker.errors import StageError
from baker.status import JobState, Stage
from baker.storage.job import AnyJob, BakeJob, Job, RolloutJob, StimJob
from baker.storage.job_origins import BakeStart, Origin, bake_start, checkpoints_in
from baker.storage.rows import Row, Rows, to_json

log = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=Job)
KINDS: dict[str, type[AnyJob]] = {Stage.STIM: StimJob, Stage.ROLLOUT: RolloutJob, Stage.BAKE: BakeJob}
OF_BAKES = "user = ? and repo = ? and stage = 'bake'"
JSON_COLUMNS = ("config", "inputs", "depends_on", "warnings", "loss", "collation", "memory", "recipe", "merge")


class JobCount(NamedTuple):
    stage: Stage
    state: JobState
    jobs: int
    items: int
    """Number of items that the jobs finished: stimuli, trajectories, rows of metrics."""


class JobTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def add(self, job: Kind) -> Kind:
        """Add a row. Returns: the job with its new number."""
        return msgspec.structs.replace(job, id=self._rows.insert("jobs", _job_row(job)))

    def update(self, job_id: int, **changes: Any) -> None:
        """Set columns of the job's row."""
        self._rows.update(
            "jobs", job_id, {key: to_json(value) if key in JSON_COLUMNS else value for key, value in changes.items()}
        )

    def is_complete(self, job_id: int) -> bool:
        """Whether the job is complete; also for rows that this version can't decode."""
        return bool(self._rows.all("select 1 from jobs where id = ? and state = ?", job_id, JobState.COMPLETE))

    def stop_clock(self, job_id: int) -> None:
        """Count the time since `started` as worked: the job no longer runs."""
        self._rows.execute(
            "update jobs set worked_seconds = worked_seconds + max(0, ? - started), started = null "
            "where id = ? and started is not null",
            time.time(),
            job_id,
        )

    def fail(self, job_id: int, reason: str, code: str) -> None:
        self.stop_clock(job_id)
        self.update(job_id, state=JobState.FAILED, error=reason, error_code=code, finished=int(time.time()))

    def find(self, job_id: int) -> AnyJob | None:
        row = self._rows.one("select * from jobs where id = ?", job_id)
        return None if row is None else _job(row)

    def state_of(self, job_id: int) -> JobState | None:
        row = self._rows.one("select state from jobs where id = ?", job_id)
        return None if row is None else JobState(row["state"])

    def find_bake(self, job_id: int) -> BakeJob | None:
        """The job of that number, if it is a bake's."""
        row = self._rows.one("select * from jobs where id = ? and stage = ?", job_id, Stage.BAKE)
        return None if row is None else _decoded(row, BakeJob)

    def latest(self, stage: Stage, user: str, repo: str, name: str) -> AnyJob | None:
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
        return self._rows.one(
            "select * from jobs where stage = ? and user = ? and repo = ? and name = ? and deleted is null "
            "order by id desc limit 1",
            *key,
        )

    def bake_before(self, job: BakeJob) -> BakeJob | None:
        """The run of the same bake before `job`."""
        row = self._rows.one(
            "select * from jobs where stage = ? and user = ? and repo = ? and name = ? and id < ? "
            "and deleted is null order by id desc limit 1",
            job.stage,
            job.user,
            job.repo,
            job.name,
            job.id,
        )
        return None if row is None else _decoded(row, BakeJob)

    def in_state(self, *states: JobState) -> list[AnyJob]:
        """Jobs of all users in these states, in order of creation."""
        jobs = []
        for row in self._rows_in_state(*states):
            try:
                jobs.append(_job(row))
            except StageError as error:  # one row must not stop the queue
                log.warning("%s", error)
        return jobs

    def fail_undecodable(self) -> None:
        """Fail the active jobs whose rows this version can't decode: a limit on their settings may be newer."""
        for row in self._rows_in_state(JobState.PENDING, JobState.RUNNING):
            try:
                _job(row)
            except StageError as error:
                self.fail(row["id"], error.message, error.code)

    def _rows_in_state(self, *states: JobState) -> list[Row]:
        marks = ", ".join("?" for _ in states)
        return self._rows.all(f"select * from jobs where state in ({marks}) and deleted is null order by id", *states)

    def last_completed_bake(self) -> BakeJob | None:
        """The bake that was completed last, of all users; None if there is none that this version can decode."""
        row = self._rows.one(
            "select * from jobs where stage = ? and state = ? and deleted is null "
            "order by finished desc, id desc limit 1",
            Stage.BAKE,
            JobState.COMPLETE,
        )
        try:
            return None if row is None else _decoded(row, BakeJob)
        except StageError as error:  # the service's metrics must not depend on one row
            log.warning("%s", error)
            return None

    def numbers(self) -> set[int]:
        """Numbers of all jobs, deleted ones too."""
        return {row["id"] for row in self._rows.all("select id from jobs")}

    def deleted_numbers(self) -> set[int]:
        """Numbers of the jobs that are deleted and not in the bin."""
        return {row["id"] for row in self._rows.all("select id from jobs where deleted is not null and bin is null")}

    def bake_starts(self, user: str, repo: str) -> dict[str, BakeStart]:
        """Bake -> its latest run, for all bakes of a repo that were run."""
        latest = f"select max(id) from jobs where {OF_BAKES} and deleted is null group by name"
        starts = self._bake_starts(f"id in ({latest})", user, repo)
        return {start.name: start for start in starts}

    def deleted_bakes(self, user: str, repo: str) -> list[BakeStart]:
        """The runs of a repo's deleted bakes, oldest first; also of those in the bin."""
        return self._bake_starts(f"{OF_BAKES} and deleted is not null", user, repo)

    def _bake_starts(self, where: str, user: str, repo: str) -> list[BakeStart]:
        """Args: where: with the parameters of OF_BAKES."""
        rows = self._rows.all(
            "select id, name, state, created, inputs ->> 'checkpoint' as checkpoint, "
            "inputs ->> 'awaited_bake' is not null as is_waiting, inputs ->> 'merge' as merge "
            f"from jobs where {where} order by id",
            user,
            repo,
        )
        return [bake_start(row) for row in rows]

    def origins(self) -> list[Origin]:
        """Origins of all rollouts and bakes, deleted ones too."""
        return [
            Origin(row["id"], row["deleted"] is not None and row["bin"] is None, checkpoints_in(row["inputs"]))
            for row in self._rows.all("select id, deleted, bin, inputs from jobs where stage in ('rollout', 'bake')")
        ]

    def mark_deleted(self, user: str, repo: str, bake: str | None = None) -> list[int]:
        """Mark the jobs of the repo's bakes, or only those of one bake. Returns: their numbers."""
        where = "user = ? and repo = ? and stage = ? and deleted is null and name = coalesce(?, name)"
        parameters = [user, repo, Stage.BAKE, bake]
        marked = [row["id"] for row in self._rows.all(f"select id from jobs where {where}", *parameters)]
        self._rows.execute(f"update jobs set deleted = ? where {where}", int(time.time()), *parameters)
        return marked

    def ids(self, user: str, repo: str, name: str, stages: tuple[Stage, ...]) -> list[int]:
        """Numbers of the jobs of a target or bake, oldest first."""
        marks = ", ".join("?" for _ in stages)
        where = f"user = ? and repo = ? and name = ? and stage in ({marks}) and deleted is null"
        return [
            row["id"]
            for row in self._rows.all(f"select id from jobs where {where} order by id", *(user, repo, name), *stages)
        ]

    def remove_deleted(self, job_id: int) -> None:
        self._rows.execute("delete from jobs where id = ? and deleted is not null", job_id)

    def counts(self) -> list[JobCount]:
        """Jobs and their items by stage and state. Combinations without a job are left out."""
        rows = self._rows.all(
            "select stage, state, count(*) as n, sum(lines) as items from jobs "
            "where deleted is null group by stage, state"
        )
        return [JobCount(Stage(row["stage"]), JobState(row["state"]), row["n"], row["items"]) for row in rows]

    def remove(self, user: str, repo: str, name: str, stages: tuple[Stage, ...]) -> list[int]:
        """Remove the jobs of a target or bake. Returns: their numbers."""
        marks = ", ".join("?" for _ in stages)
        where = f"user = ? and repo = ? and name = ? and stage in ({marks})"
        parameters = [user, repo, name, *stages]
        removed = [row["id"] for row in self._rows.all(f"select id from jobs where {where}", *parameters)]
        self._rows.execute(f"delete from jobs where {where}", *parameters)
        return removed


def _job_row(job: Job) -> Row:
    row = {**msgspec.structs.asdict(job), "stage": job.stage}
    del row["id"]
    return {key: to_json(value) if key in JSON_COLUMNS else value for key, value in row.items()}


def _job(row: Row) -> AnyJob:
    return _decoded(row, KINDS[row["stage"]])


def _decoded(row: Row, kind: type[Kind]) -> Kind:
    try:
        return msgspec.convert(_values(row), kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StageError(
            f"job {row['id']}, the {row['stage']} of {row['name']!r}, was not stored by this version and can't be read "
            f"({error}): delete the target or bake, or run the version that stored it"
        ) from error


def _values(row: Row) -> Row:
    return {
        key: msgspec.json.decode(value) if key in JSON_COLUMNS and value is not None else value
        for key, value in row.items()
    }
